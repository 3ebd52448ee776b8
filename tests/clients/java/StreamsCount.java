/*
 * StreamsCount: a Kafka Streams application that counts words exactly once, until it is killed. Run from source by
 * tests/clients/test_streams.py:  java -cp ... StreamsCount.java BOOTSTRAP APPLICATION LINES COUNTS DIRECTORY
 *
 * Every single update of a count is written (no cache in between): so COUNTS has 1, 2, 3, … for each word, each number once,
 * when nothing was lost or counted twice. Says "running" when it has its tasks.
 */
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Produced;

public class StreamsCount {
    public static void main(String[] arguments) {
        String bootstrap = arguments[0];
        String application = arguments[1];
        String lines = arguments[2];
        String counts = arguments[3];
        String directory = arguments[4];
        Properties config = new Properties();
        config.putAll(Map.of("application.id", application, "bootstrap.servers", bootstrap, "state.dir", directory,
            "processing.guarantee", "exactly_once_v2", "commit.interval.ms", 100, "num.stream.threads", 2,
            "replication.factor", 1, "statestore.cache.max.bytes", 0L));
        config.putAll(Map.of("consumer.session.timeout.ms", 3000, "consumer.heartbeat.interval.ms", 500,
            "consumer.auto.offset.reset", "earliest", "consumer.max.poll.records", 50, "producer.transaction.timeout.ms", 5000,
            "producer.linger.ms", 5));

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(lines, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count()
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(counts, Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.out.println("running");
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
