// Encodes messages with Apache Kafka's own classes. Reads lines "NAME VERSION JSON", writes "NAME VERSION HEX" for those
// that this release knows; tests/tools/golden_messages.py runs it. Compile and run against a release's jars.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

public class EncodeMessages {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.coordinator.share.generated.",
    };

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        ObjectMapper mapper = new ObjectMapper();
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ", 4);
            Class<?> converter = converterOf(words[0]);
            if (converter == null) {
                continue;
            }
            short version = Short.parseShort(words[2]);
            JsonNode json = mapper.readTree(words[3]);
            Message message;
            try {
                message = (Message) converter.getMethod("read", JsonNode.class, short.class).invoke(null, json, version);
            } catch (InvocationTargetException e) {
                System.err.println(words[0] + " " + version + ": " + e.getCause());
                continue;
            }
            if (version < message.lowestSupportedVersion() || version > message.highestSupportedVersion()) {
                continue;
            }
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
            message.write(new ByteBufferAccessor(buffer), cache, version);
            System.out.println(words[0] + " " + words[1] + " " + HexFormat.of().formatHex(buffer.array()));
        }
    }

    private static Class<?> converterOf(String name) {
        for (String prefix : PACKAGES) {
            for (String suffix : new String[] {"DataJsonConverter", "JsonConverter"}) {
                try {
                    return Class.forName(prefix + name + suffix);
                } catch (ClassNotFoundException e) {
                    // the next place
                }
            }
        }
        return null;
    }
}
