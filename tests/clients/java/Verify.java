/*
 * Verify: a million records through Kafka's own Java client, every one checked. Run from source by tests/clients/test_java.py
 * with the client's jars on the class path:  java -cp ... Verify.java BOOTSTRAP TOPIC PARTITIONS COUNT_PER_PARTITION
 *
 * The values follow the same rule in writer and reader, so the reader needs no memory of what was written. Ends with one line
 * "ok ..." and exit code 0, or with an exception.
 */
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Verify {
    static final int VALUE_BYTES = 40;

    static byte[] value(int partition, long sequence) {
        ByteBuffer bytes = ByteBuffer.allocate(VALUE_BYTES);
        long state = partition * 1_000_003L + sequence;
        while (bytes.hasRemaining()) {
            state = state * 6364136223846793005L + 1442695040888963407L;
            bytes.putLong(state);
        }
        return bytes.array();
    }

    static void produce(String bootstrap, String topic, int partitions, long count) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "compression.type", "lz4", "linger.ms", 20,
            "batch.size", 131072, "enable.idempotence", true);
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (long sequence = 0; sequence < count; sequence++) {
                for (int partition = 0; partition < partitions; partition++) {
                    long expected = sequence;
                    producer.send(new ProducerRecord<>(topic, partition, null, value(partition, sequence)), (metadata, error) -> {
                        if (error == null && metadata.offset() != expected) {
                            error = new IllegalStateException("record " + expected + " was acknowledged at " + metadata.offset());
                        }
                        if (error != null) {
                            failed.compareAndSet(null, error);
                        }
                    });
                }
            }
            producer.flush();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
    }

    static void consume(String bootstrap, String topic, int partitions, long count) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "max.poll.records", 20000, "enable.auto.commit", false);
        long[] next = new long[partitions];
        long left = partitions * count;
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> assignment = new ArrayList<>();
            for (int partition = 0; partition < partitions; partition++) {
                assignment.add(new TopicPartition(topic, partition));
            }
            consumer.assign(assignment);
            consumer.seekToBeginning(assignment);
            while (left > 0) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(20));
                if (records.isEmpty()) {
                    throw new IllegalStateException(left + " records did not come");
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    int partition = record.partition();
                    long sequence = next[partition]++;
                    if (record.offset() != sequence || !java.util.Arrays.equals(record.value(), value(partition, sequence))) {
                        throw new IllegalStateException("partition " + partition + " offset " + record.offset() + " is not record " + sequence);
                    }
                    left--;
                }
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        int partitions = Integer.parseInt(arguments[2]);
        long count = Long.parseLong(arguments[3]);
        produce(arguments[0], arguments[1], partitions, count);
        consume(arguments[0], arguments[1], partitions, count);
        System.out.println("ok " + partitions * count + " records");
    }
}
