/*
 * Patterns: members of one group read every topic whose name fits, as the coordinator finds them. Run from source by
 * tests/clients/test_groups.py, with Kafka 4:  java -cp ... Patterns.java BOOTSTRAP PREFIX
 *
 * Every partition of a topic that fits is one member's, and of others none; a topic that is made later is found; a member
 * that changes its mind gets what fits now; what is no pattern of RE2 is refused. Each record is taken once, and none of a
 * topic that does not fit. Topics PREFIX-a, PREFIX-b, PREFIX-c and PREFIX_x are made and deleted. Ends with one line "ok"
 * and exit code 0, or with an exception.
 */
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Patterns {
    static final int PARTITIONS = 2;
    static final long LIMIT_MS = 60_000;

    final String bootstrap;
    final String prefix;
    final List<KafkaConsumer<String, String>> members = new ArrayList<>();
    final Map<TopicPartition, Long> taken = new HashMap<>();
    int sent;

    Patterns(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    KafkaConsumer<String, String> member(String group, String pattern) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", group, "group.protocol", "consumer",
            "enable.auto.commit", false, "auto.offset.reset", "earliest", "fetch.max.wait.ms", 50);
        var member = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        member.subscribe(new SubscriptionPattern(pattern));
        return member;
    }

    Set<TopicPartition> all(String... suffixes) {
        Set<TopicPartition> found = new HashSet<>();
        for (String suffix : suffixes) {
            for (int partition = 0; partition < PARTITIONS; partition++) {
                found.add(new TopicPartition(prefix + suffix, partition));
            }
        }
        return found;
    }

    void poll() {
        for (KafkaConsumer<String, String> member : members) {
            for (ConsumerRecord<String, String> record : member.poll(Duration.ofMillis(50))) {
                TopicPartition where = new TopicPartition(record.topic(), record.partition());
                long due = taken.getOrDefault(where, 0L);
                if (record.offset() != due || !record.value().equals(record.topic())) {
                    throw new IllegalStateException(record.value() + " at " + record.offset() + " of " + where + ", where " + due + " was due");
                }
                taken.put(where, due + 1);
            }
            member.commitSync();
        }
    }

    /** Until each member has so many partitions, together all that are due, and so many records were taken. */
    void settle(String after, Set<TopicPartition> due, int... shares) {
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        while (true) {
            poll();
            List<Integer> sizes = members.stream().map(each -> each.assignment().size()).collect(Collectors.toList());
            Set<TopicPartition> assigned = members.stream().flatMap(each -> each.assignment().stream()).collect(Collectors.toSet());
            long records = taken.values().stream().mapToLong(each -> each).sum();
            boolean even = true;
            for (int at = 0; at < shares.length; at++) {
                even &= sizes.get(at) == shares[at];
            }
            if (even && assigned.equals(due) && records == sent) {
                return;
            }
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("after " + after + ": " + sizes + " partitions, " + assigned + " instead of " + due
                    + "; " + records + " of " + sent + " records");
            }
        }
    }

    /** One record to each partition: the name of its topic. `read`: whether somebody reads there. */
    void send(KafkaProducer<String, String> producer, String suffix, boolean read) {
        for (TopicPartition each : all(suffix)) {
            producer.send(new ProducerRecord<>(each.topic(), each.partition(), null, each.topic()));
            sent += read ? 1 : 0;
        }
        producer.flush();
    }

    void create(Admin admin, String suffix) throws Exception {
        admin.createTopics(List.of(new NewTopic(prefix + suffix, PARTITIONS, (short) 1))).all().get();
    }

    void play() throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(config);
             var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (String suffix : List.of("-a", "-b", "_x")) {
                create(admin, suffix);
            }
            send(producer, "-a", true);
            send(producer, "-b", true);
            send(producer, "_x", false);
            members.add(member(prefix, prefix + "-[[:alpha:]]+"));
            settle("the first", all("-a", "-b"), 4);
            members.add(member(prefix, prefix + "-[[:alpha:]]+"));
            settle("the second", all("-a", "-b"), 2, 2);
            create(admin, "-c");
            send(producer, "-c", true);
            members.get(0).subscribe(new SubscriptionPattern(prefix + "_[x-z]"));
            sent += PARTITIONS;  // that are there already
            settle("a topic more, and another pattern", all("-a", "-b", "-c", "_x"), 2, 6);
            send(producer, "_x", true);
            send(producer, "-a", true);
            settle("more records", all("-a", "-b", "-c", "_x"), 2, 6);
            refused();
            members.forEach(KafkaConsumer::close);
            admin.deleteConsumerGroups(List.of(prefix)).all().get();
            admin.deleteTopics(List.of(prefix + "-a", prefix + "-b", prefix + "-c", prefix + "_x")).all().get();
        }
    }

    /** A back-reference, which Java's patterns have and RE2's have not. */
    void refused() {
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        try (var member = member(prefix + "-refused", "(a)\\1")) {
            while (System.nanoTime() < deadline) {
                member.poll(Duration.ofMillis(50));
            }
        } catch (InvalidRegularExpression expected) {
            return;
        }
        throw new IllegalStateException("a back-reference is taken for a pattern");
    }

    public static void main(String[] arguments) {
        try {
            new Patterns(arguments[0], arguments[1]).play();
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok");
    }
}
