/*
 * rdkafka.c: librdkafka producing as fast as it can, in the manner of its own rdkafka_performance, so that a broker meets the
 * client most people have without a program in front of it that reads lines.
 *
 *   rdkafka --port P --topic T --producers K --records N --record-bytes S [--pid BROKER] [--set NAME=VALUE]...
 *
 * prints one line of JSON. K producers, each a client of its own with its own connection, send N records each, producer k into
 * partition k. --set hands librdkafka a setting of any name; what is not set keeps librdkafka's default.
 *
 * What stays true: the payload is one buffer that nobody copies, fills or frees; no more records are under way than
 * queue.buffering.max.messages, so librdkafka never refuses one; delivery reports are taken a batch at a time, and one that is an
 * error ends the run with exit code 1. The clock starts after a first record of each producer was delivered (connected, leader
 * known) and stops when the last report is in. Figures are only printed when every partition's end offset says that all
 * records are there once.
 */
#define _GNU_SOURCE
#include "driver.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdbool.h>

enum {
  MAX_PRODUCERS = 64,
  MAX_SETTINGS = 64,
  BURST = 1000,          /* records in one call of rd_kafka_produce_batch */
  ANSWER_MS = 60 * 1000, /* longer than any answer takes when all is well */
};

typedef struct {
  int port;
  const char *topic;
  int producers;
  int64_t records;
  int64_t record_bytes;
  int broker_pid;
  char *settings[MAX_SETTINGS]; /* NAME=VALUE */
  int setting_count;
} options;

typedef struct {
  rd_kafka_t *client;
  rd_kafka_topic_t *topic;
  rd_kafka_queue_t *reports;
  int32_t partition;
  int64_t records; /* to be sent in all */
  int64_t window;  /* as many may be under way */
  int64_t sent, delivered;
  int64_t reports_count; /* librdkafka makes one for each Produce that was answered */
  rd_kafka_message_t burst[BURST];
  pthread_t thread;
} producer;

/* ------------------------------------------------------------------------------------------------------ settings */

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char why[512];
  if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) fail("%s", why);
}

static rd_kafka_conf_t *configuration(const options *o) {
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  char bootstrap[32], deadline[16];
  (void)snprintf(bootstrap, sizeof bootstrap, "127.0.0.1:%d", o->port);
  (void)snprintf(deadline, sizeof deadline, "%d", ANSWER_MS);
  set(conf, "bootstrap.servers", bootstrap);
  set(conf, "message.timeout.ms", deadline); /* a broker that goes away ends the run */
  for (int index = 0; index < o->setting_count; index++) {
    char *value = strchr(o->settings[index], '=');
    char name[128];
    (void)snprintf(name, sizeof name, "%.*s", (int)(value - o->settings[index]), o->settings[index]);
    set(conf, name, value + 1);
  }
  rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
  return conf;
}

static int64_t window_of(const rd_kafka_conf_t *conf) {
  char text[32];
  size_t size = sizeof text;
  const char *name = "queue.buffering.max.messages";
  if (rd_kafka_conf_get(conf, name, text, &size) != RD_KAFKA_CONF_OK) fail("librdkafka has no %s", name);
  int64_t limit = number(name, text, 0, INT32_MAX);
  return limit > 0 ? limit : INT32_MAX; /* 0 is librdkafka's word for no limit */
}

/* ------------------------------------------------------------------------------------------------------ producing */

/* Wait up to timeout_ms for one event. Returns false when none came. */
static bool take_report(producer *p, int timeout_ms) {
  rd_kafka_event_t *event = rd_kafka_queue_poll(p->reports, timeout_ms);
  if (event == NULL) return false;
  if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    fail("partition %d: %s: %s", (int)p->partition, rd_kafka_event_name(event), rd_kafka_event_error_string(event));
  }
  if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
    p->delivered += (int64_t)rd_kafka_event_message_count(event);
    p->reports_count++;
  }
  rd_kafka_event_destroy(event); /* frees the records it is about */
  return true;
}

static void send_burst(producer *p, int64_t count) {
  int taken = rd_kafka_produce_batch(p->topic, p->partition, 0, p->burst, (int)count);
  for (int64_t index = 0; taken < count && index < count; index++) {
    rd_kafka_resp_err_t error = p->burst[index].err;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) fail("partition %d: %s", (int)p->partition, rd_kafka_err2str(error));
  }
  p->sent += count;
}

static void wait_delivered(producer *p) {
  while (p->delivered < p->sent) {
    if (!take_report(p, 2 * ANSWER_MS)) fail("partition %d: no delivery report", (int)p->partition);
  }
}

static void *run(void *argument) {
  producer *p = argument;
  while (p->sent < p->records) {
    int64_t left = p->records - p->sent;
    int64_t burst = left < BURST ? left : BURST;
    if (burst > p->window) burst = p->window;
    while (take_report(p, p->sent - p->delivered + burst > p->window ? 2 * ANSWER_MS : 0)) {
    }
    if (p->sent - p->delivered + burst > p->window) fail("partition %d: no delivery report", (int)p->partition);
    send_burst(p, burst);
  }
  wait_delivered(p);
  return NULL;
}

static void start(producer *p, const options *o, int32_t partition, char *payload) {
  char why[512];
  rd_kafka_conf_t *conf = configuration(o);
  p->window = window_of(conf);
  p->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
  if (p->client == NULL) fail("%s", why);
  p->topic = rd_kafka_topic_new(p->client, o->topic, NULL);
  if (p->topic == NULL) fail("topic %s: %s", o->topic, rd_kafka_err2str(rd_kafka_last_error()));
  p->reports = rd_kafka_queue_get_main(p->client);
  p->partition = partition;
  p->records = o->records + 1;
  for (int index = 0; index < BURST; index++) {
    p->burst[index].payload = payload;
    p->burst[index].len = (size_t)o->record_bytes;
  }
  send_burst(p, 1);
  wait_delivered(p);
  p->reports_count = 0;
}

static void verify(const producer *p) {
  int64_t low, high;
  rd_kafka_resp_err_t error =
      rd_kafka_query_watermark_offsets(p->client, rd_kafka_topic_name(p->topic), p->partition, &low, &high, ANSWER_MS);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
    fail("end offset of partition %d: %s", (int)p->partition, rd_kafka_err2str(error));
  if (low != 0 || high != p->records) {
    fail("partition %d has records %" PRId64 " to %" PRId64 ", not %" PRId64, (int)p->partition, low, high, p->records);
  }
}

static void stop(producer *p) {
  rd_kafka_queue_destroy(p->reports);
  rd_kafka_topic_destroy(p->topic);
  rd_kafka_destroy(p->client);
}

/* -------------------------------------------------------------------------------------------------------- options */

static void set_option(options *o, const char *name, char *text) {
  if (strcmp(name, "--port") == 0) {
    o->port = (int)number(name, text, 1, 65535);
  } else if (strcmp(name, "--topic") == 0) {
    o->topic = text;
  } else if (strcmp(name, "--producers") == 0) {
    o->producers = (int)number(name, text, 1, MAX_PRODUCERS);
  } else if (strcmp(name, "--records") == 0) {
    o->records = number(name, text, 1, INT64_MAX / MAX_PRODUCERS);
  } else if (strcmp(name, "--record-bytes") == 0) {
    o->record_bytes = number(name, text, 1, 1 << 24);
  } else if (strcmp(name, "--pid") == 0) {
    o->broker_pid = (int)number(name, text, 1, INT32_MAX);
  } else if (strcmp(name, "--set") == 0) {
    if (o->setting_count == MAX_SETTINGS) fail("more than %d settings", MAX_SETTINGS);
    if (strchr(text, '=') == NULL) fail("--set wants NAME=VALUE, not %s", text);
    o->settings[o->setting_count++] = text;
  } else {
    fail("there is no option %s", name);
  }
}

static options read_options(int count, char **words) {
  options o = {.producers = 1};
  for (int index = 1; index < count; index += 2) {
    if (index + 1 == count) fail("%s needs a value", words[index]);
    set_option(&o, words[index], words[index + 1]);
  }
  if (o.port == 0 || o.topic == NULL || o.records == 0 || o.record_bytes == 0) {
    fail("usage: --port P --topic T --records N --record-bytes S [--producers K] [--pid BROKER] [--set NAME=VALUE]...");
  }
  return o;
}

static char *make_payload(int64_t size) {
  char *payload = malloc((size_t)size);
  if (payload == NULL) fail("no memory");
  for (int64_t index = 0; index < size; index++) payload[index] = (char)('a' + index % 26);
  return payload;
}

int main(int count, char **words) {
  options o = read_options(count, words);
  char *payload = make_payload(o.record_bytes);
  producer *producers = calloc((size_t)o.producers, sizeof *producers);
  if (producers == NULL) fail("no memory");
  for (int index = 0; index < o.producers; index++) start(&producers[index], &o, index, payload);

  int64_t broker_ns = process_cpu_ns(o.broker_pid), own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), started_ns = now_ns();
  for (int index = 0; index < o.producers; index++) {
    if (pthread_create(&producers[index].thread, NULL, run, &producers[index]) != 0) fail("no thread");
  }
  for (int index = 0; index < o.producers; index++) (void)pthread_join(producers[index].thread, NULL);
  double seconds = (double)(now_ns() - started_ns) / 1e9;
  double broker = (double)(process_cpu_ns(o.broker_pid) - broker_ns) / 1e9;
  double own = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_ns) / 1e9;

  int64_t records = o.records * o.producers, requests = 0;
  for (int index = 0; index < o.producers; index++) {
    verify(&producers[index]);
    requests += producers[index].reports_count;
    stop(&producers[index]);
  }
  free(producers);
  free(payload);
  printf("{\"records\": %" PRId64 ", \"bytes\": %" PRId64 ", \"requests\": %" PRId64 ", \"seconds\": %.6f, "
         "\"broker_cpu_seconds\": %.6f, \"load_cpu_seconds\": %.6f}\n",
         records, records * o.record_bytes, requests, seconds, broker, own);
  return 0;
}
