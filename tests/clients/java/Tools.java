/*
 * Tools: many runs of Kafka's command line tools in one Java virtual machine. Run from source by tests/differential/tools.py
 * with the tools' jars on the class path:  java -cp ... Tools.java
 *
 * A line of the input is a main class and its arguments, with tabs between. After what a tool printed, to either stream, comes
 * a line with the character 1 and its exit code.
 */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

public class Tools {
    static class Exited extends RuntimeException {
        final int code;

        Exited(int code) {
            this.code = code;
        }
    }

    static int run(String mainClass, String[] arguments) throws Exception {
        try {
            Class.forName(mainClass).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException failed) {
            for (Throwable each = failed.getCause(); each != null; each = each.getCause())
                if (each instanceof Exited) return ((Exited) each).code;
            System.out.println(failed.getCause());
            return -1;
        }
    }

    public static void main(String[] none) throws Exception {
        PrintStream out = System.out;
        System.setErr(out);
        Exit.setExitProcedure((code, message) -> {
            throw new Exited(code);
        });
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\t", -1);
            int code = run(words[0], Arrays.copyOfRange(words, 1, words.length));
            out.print("\n\u0001" + code + "\n");
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
