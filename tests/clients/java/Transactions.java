/*
 * Transactions: read, process, write, some of it aborted; then what each kind of reader sees. Run from source by
 * tests/clients/test_java.py:  java -cp ... Transactions.java BOOTSTRAP INPUT OUTPUT EPOCHS
 *
 * INPUT and OUTPUT have PARTITIONS partitions. EPOCHS is `each` where a producer has another epoch after each end of a
 * transaction (transaction version 2 and a producer of Kafka 4), and `one` where it keeps the one it has. A reader of
 * committed records sees each number once and in its order, and nothing of a transaction that is open; another one sees what
 * was aborted too. Ends with one line "ok ..." and exit code 0, or with an exception.
 */
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;

public class Transactions {
    static final int PARTITIONS = 2;
    static final long NUMBERS = 200;
    static final int AT_ONCE = 9;
    static final long LIMIT_MS = 60_000;

    final String bootstrap;
    final String input;
    final String output;
    int ends;
    long aborted;

    Transactions(String bootstrap, String input, String output) {
        this.bootstrap = bootstrap;
        this.input = input;
        this.output = output;
    }

    KafkaProducer<Long, Long> producer(Map<String, Object> how) {
        Map<String, Object> config = new HashMap<>(how);
        config.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(config, new LongSerializer(), new LongSerializer());
    }

    KafkaConsumer<Long, Long> consumer(String isolation, int atOnce) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", output, "enable.auto.commit", false,
            "auto.offset.reset", "earliest", "isolation.level", isolation, "max.poll.records", atOnce, "fetch.max.wait.ms", 50);
        return new KafkaConsumer<>(config, new LongDeserializer(), new LongDeserializer());
    }

    static List<TopicPartition> all(String topic) {
        return IntStream.range(0, PARTITIONS).mapToObj(each -> new TopicPartition(topic, each)).collect(Collectors.toList());
    }

    /** What such a reader sees up to where it is told that the end is; by partition, in its order. */
    Map<TopicPartition, List<Long>> seen(String isolation) {
        Map<TopicPartition, List<Long>> values = new HashMap<>();
        try (var reader = consumer(isolation, 500)) {
            reader.assign(all(output));
            reader.seekToBeginning(all(output));
            Map<TopicPartition, Long> ends = reader.endOffsets(all(output));
            long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
            while (ends.entrySet().stream().anyMatch(each -> reader.position(each.getKey()) < each.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the end " + ends + " is not reached: " + values);
                }
                for (ConsumerRecord<Long, Long> record : reader.poll(Duration.ofMillis(50))) {
                    values.computeIfAbsent(new TopicPartition(output, record.partition()), any -> new ArrayList<>()).add(record.value());
                }
            }
        }
        return values;
    }

    static long count(Map<TopicPartition, List<Long>> values) {
        return values.values().stream().mapToLong(List::size).sum();
    }

    /** A reader of committed records sees the numbers below this, each once and in its order. */
    void check(long numbers) {
        Map<TopicPartition, List<Long>> due = new HashMap<>();
        for (long number = 0; number < numbers; number++) {
            due.computeIfAbsent(new TopicPartition(output, (int) (number % PARTITIONS)), any -> new ArrayList<>()).add(number);
        }
        Map<TopicPartition, List<Long>> values = seen("read_committed");
        if (!values.equals(due)) {
            throw new IllegalStateException(values + " is seen where " + due + " is committed");
        }
    }

    void order() {
        try (var orders = producer(Map.of("enable.idempotence", true))) {
            for (long number = 0; number < NUMBERS; number++) {
                orders.send(new ProducerRecord<>(input, (int) (number % PARTITIONS), null, number));
            }
        }
    }

    void send(KafkaProducer<Long, Long> producer, long number) {
        producer.send(new ProducerRecord<>(output, (int) (number % PARTITIONS), null, number));
    }

    /** Every third transaction is aborted, and what it had read is read again. */
    void process(KafkaProducer<Long, Long> producer) {
        Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        all(input).forEach(each -> done.put(each, new OffsetAndMetadata(0)));
        try (var reader = consumer("read_committed", AT_ONCE)) {
            reader.assign(all(input));
            while (done.values().stream().mapToLong(OffsetAndMetadata::offset).sum() < NUMBERS) {
                var records = reader.poll(Duration.ofMillis(100));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>(done);
                for (ConsumerRecord<Long, Long> record : records) {
                    send(producer, record.value());
                    next.put(new TopicPartition(input, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(next, reader.groupMetadata());
                if (++ends % 3 == 0) {
                    producer.flush();
                    producer.abortTransaction();
                    aborted += records.count();
                    if (!done.equals(committed(reader, done))) {
                        throw new IllegalStateException("offsets of an aborted transaction are " + committed(reader, done));
                    }
                    done.forEach((where, offset) -> reader.seek(where, offset.offset()));
                } else {
                    producer.commitTransaction();
                    done.putAll(next);
                    if (!done.equals(committed(reader, done))) {
                        throw new IllegalStateException(done + " is committed, and known is " + committed(reader, done));
                    }
                }
            }
        }
    }

    /** Nothing committed is 0. */
    static Map<TopicPartition, OffsetAndMetadata> committed(
        KafkaConsumer<Long, Long> reader, Map<TopicPartition, OffsetAndMetadata> of) {
        Map<TopicPartition, OffsetAndMetadata> found = new HashMap<>();
        reader.committed(of.keySet()).forEach((where, offset) -> found.put(where, offset == null ? new OffsetAndMetadata(0) : offset));
        return found;
    }

    void play(String epochs) throws Exception {
        order();
        Map<String, Object> id = Map.of("transactional.id", output, "linger.ms", 0);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
             var producer = producer(id);
             var successor = producer(id)) {
            producer.initTransactions();
            TransactionDescription before = described(admin);
            process(producer);
            TransactionDescription after = described(admin);
            long risen = after.producerEpoch() - before.producerEpoch();
            if (before.producerId() != after.producerId() || risen != (epochs.equals("each") ? ends : 0)) {
                throw new IllegalStateException(ends + " transactions ended: " + before + " became " + after);
            }
            check(NUMBERS);
            producer.beginTransaction();
            send(producer, NUMBERS);
            producer.flush();
            check(NUMBERS);
            producer.commitTransaction();
            check(NUMBERS + 1);
            producer.beginTransaction();
            send(producer, NUMBERS + 1);
            producer.flush();
            successor.initTransactions();
            try {
                producer.commitTransaction();
                throw new IllegalStateException("who was fenced commits");
            } catch (ProducerFencedException | InvalidProducerEpochException fenced) {
                check(NUMBERS + 1);
            }
            successor.beginTransaction();
            send(successor, NUMBERS + 1);
            successor.commitTransaction();
            check(NUMBERS + 2);
            long uncommitted = count(seen("read_uncommitted"));
            if (aborted == 0 || uncommitted != NUMBERS + 2 + aborted + 1) {
                throw new IllegalStateException(uncommitted + " are there, and " + aborted + " were aborted");
            }
        }
    }

    TransactionDescription described(Admin admin) throws Exception {
        return admin.describeTransactions(List.of(output)).description(output).get();
    }

    public static void main(String[] arguments) {
        Transactions transactions = new Transactions(arguments[0], arguments[1], arguments[2]);
        try {
            transactions.play(arguments[3]);
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok " + transactions.ends);
    }
}
