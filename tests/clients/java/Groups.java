/*
 * Groups: members join and leave a group while records come, and every record is taken once and in its order. Run from
 * source by tests/clients/test_groups.py:  java -cp ... Groups.java BOOTSTRAP TOPIC PARTITIONS WAY
 *
 * WAY says how the members agree: eager, cooperative, consumer (the protocol where the coordinator assigns), convert (a
 * group that members of both kinds share while it changes from one to the other and back), or static (members with names,
 * in the consumer protocol: who comes back has what it had, and nobody else notices).
 * A member commits what it took before it polls again, and before partitions are taken from it; so whoever has a partition
 * next must begin exactly behind. Ends with one line "ok ..." and exit code 0, or with an exception.
 */
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;

public class Groups {
    static final long PROGRESS = 40;
    static final long LIMIT_MS = 60_000;

    final String bootstrap;
    final String topic;
    final int partitions;
    final AtomicLongArray taken;
    final AtomicLongArray sent;
    final AtomicReference<Throwable> failed = new AtomicReference<>();
    final List<Member> members = new ArrayList<>();
    volatile boolean ordering = true;

    Groups(String bootstrap, String topic, int partitions) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.partitions = partitions;
        this.taken = new AtomicLongArray(partitions);
        this.sent = new AtomicLongArray(partitions);
    }

    KafkaConsumer<Long, Long> consumer(Map<String, Object> how) {
        Map<String, Object> config = new HashMap<>(how);
        config.putAll(Map.of("bootstrap.servers", bootstrap, "group.id", topic, "enable.auto.commit", false,
            "auto.offset.reset", "earliest"));
        return new KafkaConsumer<>(config, new LongDeserializer(), new LongDeserializer());
    }

    /** One member, on a thread of its own. */
    class Member extends Thread implements ConsumerRebalanceListener {
        final KafkaConsumer<Long, Long> consumer;
        final Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        volatile Set<TopicPartition> assigned = Set.of();
        volatile boolean leaving;
        volatile int rebalances;

        Member(Map<String, Object> how) {
            Map<String, Object> config = new HashMap<>(how);
            config.putAll(Map.of("fetch.max.wait.ms", 50, "max.poll.records", 50));
            consumer = consumer(config);
        }

        @Override
        public void run() {
            try (consumer) {
                consumer.subscribe(List.of(topic), this);
                while (!leaving) {
                    for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofMillis(100))) {
                        take(record);
                    }
                    assigned = consumer.assignment();
                    try {
                        commit(assigned);
                    } catch (RebalanceInProgressException later) {
                        // then it is committed when the partitions are revoked, or after the next poll
                    }
                }
            } catch (Throwable error) {
                failed.compareAndSet(null, error);
            }
        }

        void take(ConsumerRecord<Long, Long> record) {
            long expected = taken.get(record.partition());
            if (record.value() != expected || record.offset() != expected) {
                throw new IllegalStateException("partition " + record.partition() + ": record " + record.value() + " at "
                    + record.offset() + " came where " + expected + " was due");
            }
            taken.set(record.partition(), expected + 1);
            done.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(expected + 1));
        }

        void commit(Collection<TopicPartition> which) {
            Map<TopicPartition, OffsetAndMetadata> now = new HashMap<>(done);
            now.keySet().retainAll(which);
            if (!now.isEmpty()) {
                consumer.commitSync(now);
                done.keySet().removeAll(now.keySet());
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> gained) {
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
            commit(revoked);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> lost) {
            if (!lost.isEmpty()) {
                throw new IllegalStateException("lost " + lost);
            }
        }
    }

    /** Record n of each partition has the value n. */
    void order() {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "linger.ms", 2, "enable.idempotence", true);
        try (var producer = new KafkaProducer<>(config, new LongSerializer(), new LongSerializer())) {
            while (ordering) {
                for (int partition = 0; partition < partitions; partition++) {
                    producer.send(new ProducerRecord<>(topic, partition, null, sent.getAndIncrement(partition)), (metadata, error) -> {
                        if (error != null) {
                            failed.compareAndSet(null, error);
                        }
                    });
                }
                producer.flush();
            }
        } catch (Throwable error) {
            failed.compareAndSet(null, error);
        }
    }

    void await(String what, BooleanSupplier condition) throws Exception {
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        while (!condition.getAsBoolean()) {
            if (failed.get() != null) {
                throw new IllegalStateException(what + ": a member or the producer failed", failed.get());
            }
            if (System.nanoTime() > deadline) {
                String shares = members.stream().map(each -> each.assigned.toString()).collect(Collectors.joining(" "));
                throw new IllegalStateException(what + " did not come: taken " + taken + " of " + sent + ", assigned " + shares);
            }
            Thread.sleep(10);
        }
    }

    /** Every member has its share of the partitions, and every partition goes on. */
    void settle(Admin admin, String after) throws Exception {
        int share = partitions / members.size();
        await("even shares after " + after, () -> members.stream().allMatch(each -> each.assigned.size() == share));
        long[] before = new long[partitions];
        for (int partition = 0; partition < partitions; partition++) {
            before[partition] = taken.get(partition);
        }
        await("progress after " + after, () -> {
            for (int partition = 0; partition < partitions; partition++) {
                if (taken.get(partition) < before[partition] + PROGRESS) {
                    return false;
                }
            }
            return true;
        });
        ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        Set<TopicPartition> all = described.members().stream().flatMap(each -> each.assignment().topicPartitions().stream())
            .collect(Collectors.toSet());
        if (described.members().size() != members.size() || all.size() != partitions) {
            throw new IllegalStateException("after " + after + " the group is " + described);
        }
    }

    void join(Admin admin, Map<String, Object> how) throws Exception {
        Member member = new Member(how);
        members.add(member);
        member.start();
        settle(admin, members.size() + " members");
    }

    void leave(Admin admin) throws Exception {
        Member first = members.remove(0);
        first.leaving = true;
        first.join(LIMIT_MS);
        if (!members.isEmpty()) {
            settle(admin, "one left");
        }
    }

    /** Members come and go. */
    void change(Admin admin, String way) throws Exception {
        Map<String, Object> range = Map.of("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        Map<String, Object> sticky = Map.of("partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        Map<String, Object> served = Map.of("group.protocol", "consumer");
        Map<String, List<Map<String, Object>>> ways = Map.of("eager", List.of(range, range, range), "cooperative",
            List.of(sticky, sticky, sticky), "consumer", List.of(served, served, served), "convert", List.of(sticky, served, sticky));
        List<Map<String, Object>> kinds = ways.get(way);
        join(admin, kinds.get(0));
        join(admin, kinds.get(1));
        leave(admin);
        join(admin, kinds.get(2));
        leave(admin);
    }

    /** A member with a name goes and comes back; another that says it has that name is sent away meanwhile and later. */
    void comeBack(Admin admin) throws Exception {
        Map<String, Object> first = Map.of("group.protocol", "consumer", "group.instance.id", "first");
        Map<String, Object> second = Map.of("group.protocol", "consumer", "group.instance.id", "second");
        join(admin, first);
        join(admin, second);
        Member away = members.remove(0);
        Member stays = members.get(0);
        Set<TopicPartition> had = away.assigned;
        int rebalances = stays.rebalances;
        away.leaving = true;
        away.join(LIMIT_MS);
        Member back = new Member(first);
        members.add(back);
        back.start();
        settle(admin, "it came back");
        if (!back.assigned.equals(had) || stays.rebalances != rebalances) {
            throw new IllegalStateException("it had " + had + " and now has " + back.assigned + "; the other was told of "
                + (stays.rebalances - rebalances) + " rebalances");
        }
        try (var another = consumer(first)) {
            another.subscribe(List.of(topic));
            await("no for another of its name", () -> {
                try {
                    another.poll(Duration.ofMillis(100));
                    return false;
                } catch (UnreleasedInstanceIdException refused) {
                    return true;
                }
            });
        }
        settle(admin, "another of its name was refused");
        if (!back.assigned.equals(had) || stays.rebalances != rebalances) {
            throw new IllegalStateException("another of its name was refused, and yet " + had + " became " + back.assigned);
        }
    }

    void play(String way) throws Exception {
        Thread orders = new Thread(this::order);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            orders.start();
            if (way.equals("static")) {
                comeBack(admin);
            } else {
                change(admin, way);
            }
            ordering = false;
            orders.join(LIMIT_MS);
            await("the last record", () -> taken.toString().equals(sent.toString()));
            for (Member each : members) {
                each.leaving = true;
                each.join(LIMIT_MS);
            }
            await("an end without failure", () -> true);
            Map<TopicPartition, OffsetAndMetadata> committed = admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
            for (int partition = 0; partition < partitions; partition++) {
                if (committed.get(new TopicPartition(topic, partition)).offset() != sent.get(partition)) {
                    throw new IllegalStateException(committed + " is committed, and " + sent + " was sent");
                }
            }
            if (!way.equals("static")) {
                admin.deleteConsumerGroups(List.of(topic)).all().get();
            }
        } finally {
            ordering = false;
            members.forEach(each -> each.leaving = true);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Groups groups = new Groups(arguments[0], arguments[1], Integer.parseInt(arguments[2]));
        try {
            groups.play(arguments[3]);
            if (groups.failed.get() != null) {
                throw new IllegalStateException("at the end", groups.failed.get());
            }
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok " + arguments[3]);
    }
}
