import java.util.*;
import java.util.stream.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;
import org.apache.kafka.coordinator.group.modern.*;

public class Assign {
  static String q(String s) { return s == null ? "null" : "\"" + s + "\""; }
  static String hex(Uuid u) { return String.format("%016x%016x", u.getMostSignificantBits(), u.getLeastSignificantBits()); }
  public static void main(String[] a) throws Exception {
    Random r = new Random(848);
    for (int chain = 0; chain < 60; chain++) {
      int topicCount = 1 + r.nextInt(6);
      List<Uuid> topics = new ArrayList<>();
      Map<Uuid, Integer> counts = new LinkedHashMap<>();
      for (int i = 0; i < topicCount; i++) { Uuid u = new Uuid(r.nextLong(), r.nextLong()); topics.add(u); counts.put(u, 1 + r.nextInt(r.nextInt(4) == 0 ? 70 : 9)); }
      boolean uniform = r.nextInt(2) == 0;
      String name = r.nextInt(4) == 0 ? "range" : "uniform";
      ConsumerGroupPartitionAssignor assignor = name.equals("range") ? new RangeAssignor() : new UniformAssignor();
      LinkedHashMap<String, String> inst = new LinkedHashMap<>();
      Map<String, Set<Uuid>> subs = new HashMap<>();
      Map<String, Map<Uuid, Set<Integer>>> target = new HashMap<>();
      Set<Uuid> all = pick(topics, r);
      int steps = 1 + r.nextInt(7);
      for (int s = 0; s < steps; s++) {
        int add = s == 0 ? 1 + r.nextInt(r.nextInt(5) == 0 ? 30 : 6) : r.nextInt(3);
        for (int i = 0; i < add; i++) {
          String id = Long.toString(r.nextLong() >>> 1, 36) ;
          inst.put(id, r.nextInt(4) == 0 ? "i" + r.nextInt(1000) : null);
          subs.put(id, uniform ? all : pick(topics, r));
        }
        if (s > 0) {
          for (String id : new ArrayList<>(inst.keySet())) if (inst.size() > 1 && r.nextInt(6) == 0) { inst.remove(id); subs.remove(id); target.remove(id); }
          if (!uniform) for (String id : inst.keySet()) if (r.nextInt(8) == 0) subs.put(id, pick(topics, r));
          if (uniform && r.nextInt(4) == 0) { all = pick(topics, r); for (String id : inst.keySet()) subs.put(id, all); }
          for (Uuid u : topics) if (r.nextInt(6) == 0) counts.put(u, counts.get(u) + r.nextInt(5));
        }
        Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
        target.forEach((m, t) -> t.forEach((u, ps) -> ps.forEach(p -> inverted.computeIfAbsent(u, x -> new HashMap<>()).put(p, m))));
        Map<String, MemberSubscriptionAndAssignmentImpl> specs = new HashMap<>();
        StringBuilder in = new StringBuilder();
        for (String id : inst.keySet()) {
          Map<Uuid, Set<Integer>> t = target.getOrDefault(id, Map.of());
          // as a record is read back
          Map<Uuid, Set<Integer>> copy = new HashMap<>();
          for (Uuid u : topics) if (t.containsKey(u)) copy.put(u, new HashSet<>(t.get(u)));
          specs.put(id, new MemberSubscriptionAndAssignmentImpl(Optional.empty(), Optional.ofNullable(inst.get(id)), new HashSet<>(subs.get(id)), new Assignment(Collections.unmodifiableMap(copy))));
          if (in.length() > 0) in.append(",");
          in.append("[" + q(id) + "," + q(inst.get(id)) + "," + subs.get(id).stream().map(topics::indexOf).sorted().map(String::valueOf).collect(Collectors.joining(",", "[", "]")) + "," + show(t, topics) + "]");
        }
        boolean same = new HashSet<>(subs.values()).size() == 1;
        GroupAssignment out = assignor.assign(new GroupSpecImpl(Collections.unmodifiableMap(specs), same ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, inverted), new SubscribedTopicDescriber() {
          public int numPartitions(Uuid u) { return counts.getOrDefault(u, -1); }
          public Set<String> racksForPartition(Uuid u, int p) { return Set.of(); }
          public Set<Integer> assignablePartitions(Uuid u) { return IntStream.range(0, counts.get(u)).boxed().collect(Collectors.toSet()); }
        });
        StringBuilder o = new StringBuilder();
        for (String id : inst.keySet()) {
          Map<Uuid, Set<Integer>> t = out.members().containsKey(id) ? out.members().get(id).partitions() : Map.of();
          if (o.length() > 0) o.append(",");
          o.append(show(t, topics));
          Map<Uuid, Set<Integer>> c = new HashMap<>();
          t.forEach((u, ps) -> c.put(u, new HashSet<>(ps)));
          target.put(id, c);
        }
        System.out.println("{\"assignor\":" + q(name) + ",\"topics\":[" + topics.stream().map(u -> "[" + q(hex(u)) + "," + counts.get(u) + "]").collect(Collectors.joining(",")) + "],\"members\":[" + in + "],\"targets\":[" + o + "]}");
      }
    }
  }
  static Set<Uuid> pick(List<Uuid> topics, Random r) {
    Set<Uuid> s = new HashSet<>();
    for (Uuid u : topics) if (r.nextInt(3) > 0) s.add(u);
    if (s.isEmpty()) s.add(topics.get(r.nextInt(topics.size())));
    return s;
  }
  static String show(Map<Uuid, Set<Integer>> t, List<Uuid> topics) {
    return new TreeMap<>(t.entrySet().stream().filter(e -> !e.getValue().isEmpty()).collect(Collectors.toMap(e -> topics.indexOf(e.getKey()), e -> e.getValue()))).entrySet().stream()
      .map(e -> "\"" + e.getKey() + "\":" + new TreeSet<>(e.getValue()).toString().replace(" ", "")).collect(Collectors.joining(",", "{", "}"));
  }
}
