/*
 * load.c: a load generator for any Kafka broker, cheap enough not to be what is measured.
 *
 *   load MODE --port P --topic T [options]          prints one line of JSON
 *
 *   produce        one prepared record batch over and over, partition 0
 *   fetch          from offset 0 to the end and again; the topic was filled with batches of --batch-bytes
 *   tail           one connection produces --rate single records a second, the others wait for them with long polls
 *                  (--urgent 1: before everybody else on its processor, where that is allowed)
 *   apiversions, metadata   the same request over and over
 *
 * What stays true: one thread, no allocation after the start; each connection has --inflight requests under way at all times;
 * answers come in request order and every error code in them ends the run with exit code 1. Counters and clocks are reset when
 * the warm-up ends, while the load goes on. CPU of the broker is read from its process clock, so it is exact to nanoseconds.
 */
#define _GNU_SOURCE
#include "driver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  MAX_INFLIGHT = 64,
  PREFIX_BYTES = 12,  /* size, api key, version, correlation id: what differs between two requests */
  HEAD_BYTES = 65536, /* how much of an answer is kept to be looked at */
  SCRATCH_BYTES = 1 << 20,
  SUB_BUCKETS = 64,
  BUCKETS = 48 * SUB_BUCKETS,
  BATCH_HEADER_BYTES = 61,
  API_PRODUCE = 0,
  API_FETCH = 1,
  API_METADATA = 3,
  API_VERSIONS = 18,
};

typedef enum { MODE_PRODUCE, MODE_FETCH, MODE_TAIL, MODE_APIVERSIONS, MODE_METADATA } run_mode;

typedef struct {
  run_mode mode;
  const char *mode_name;
  const char *topic;
  int port;
  int connections;
  int inflight;
  int acks;
  int rate;
  int64_t record_bytes;
  int64_t batch_bytes;
  int64_t fetch_bytes;
  int64_t requests; /* stop after so many; 0: when the time is over */
  double seconds;
  double warmup;
  bool urgent;
  int broker_pid;
} options;

/* A connection. Requests under way are slots [first, first + count) of a ring; answers come in that order. */
typedef struct {
  int fd;
  int api_key;
  bool want_write;
  uint8_t prefix[MAX_INFLIGHT][PREFIX_BYTES];
  int64_t sent_ns[MAX_INFLIGHT];
  int first, count;  /* slots under way, the unsent ones included */
  int unsent;        /* the last so many of them are not wholly sent */
  size_t sent_bytes; /* of the first unsent one */
  uint32_t correlation;

  uint8_t *body; /* what follows the prefix; shared where nothing in it changes */
  size_t body_bytes;
  int64_t offset; /* fetch and tail: the next one */

  size_t got; /* of the answer being received, its size field included */
  size_t size;
  uint8_t *head;
} connection;

typedef struct {
  int64_t requests, records, bytes;
  int64_t started_ns, broker_cpu_ns, own_cpu_ns;
  uint64_t latency[BUCKETS];
  int64_t latency_count, latency_max;
} counters;

typedef struct {
  options o;
  int epoll;
  int timer;
  connection *connections;
  counters now;
  int64_t records_per_batch;
  int64_t begun_ns, warm_ns, deadline_ns;
  bool warm;
  uint8_t *scratch;
  size_t offset_position; /* in a fetch body: where the offset is */
  size_t stamp_position;  /* in a tail's produce body: where the record's time is */
  size_t crc_position;
} load;

/* ---------------------------------------------------------------------------------------------------- histogram */

static int bucket_of(int64_t value) {
  if (value < SUB_BUCKETS) return value < 0 ? 0 : (int)value;
  int shift = 63 - __builtin_clzll((uint64_t)value) - 6;
  int bucket = (shift + 1) * SUB_BUCKETS + (int)((value >> shift) & (SUB_BUCKETS - 1));
  return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The middle of what falls into a bucket; 1.6 % wide at most. */
static double bucket_value(int bucket) {
  if (bucket < SUB_BUCKETS) return bucket;
  int shift = bucket / SUB_BUCKETS - 1;
  return ((double)(SUB_BUCKETS + bucket % SUB_BUCKETS) + 0.5) * (double)(1ull << shift);
}

static void count_latency(counters *c, int64_t ns) {
  c->latency[bucket_of(ns)]++;
  c->latency_count++;
  if (ns > c->latency_max) c->latency_max = ns;
}

static double percentile_us(const counters *c, double part) {
  int64_t wanted = (int64_t)((double)c->latency_count * part), seen = 0;
  for (int bucket = 0; bucket < BUCKETS; bucket++) {
    seen += (int64_t)c->latency[bucket];
    if (seen > wanted) return bucket_value(bucket) / 1000;
  }
  return (double)c->latency_max / 1000;
}

/* --------------------------------------------------------------------------------------------------------- bytes */

typedef struct {
  uint8_t *data;
  size_t size, capacity;
} bytes;

static void put(bytes *b, const void *data, size_t size) {
  if (b->size + size > b->capacity) {
    b->capacity = (b->size + size) * 2;
    b->data = realloc(b->data, b->capacity);
    if (b->data == NULL) fail("no memory");
  }
  memcpy(b->data + b->size, data, size);
  b->size += size;
}

static void put_int(bytes *b, int64_t value, int size) {
  for (int shift = (size - 1) * 8; shift >= 0; shift -= 8) {
    uint8_t byte = (uint8_t)((uint64_t)value >> shift);
    put(b, &byte, 1);
  }
}

static void put_string(bytes *b, const char *text) {
  put_int(b, (int64_t)strlen(text), 2);
  put(b, text, strlen(text));
}

static void put_varint(bytes *b, int64_t value) {
  uint64_t left = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
  do {
    uint8_t byte = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    put(b, &byte, 1);
    left >>= 7;
  } while (left != 0);
}

static void set_int(uint8_t *at, int64_t value, int size) {
  for (int index = 0; index < size; index++) at[index] = (uint8_t)((uint64_t)value >> ((size - 1 - index) * 8));
}

static int64_t get_int(const uint8_t *at, int size) {
  int64_t value = (int8_t)at[0];
  for (int index = 1; index < size; index++) value = (int64_t)((uint64_t)value << 8 | at[index]);
  return value;
}

static uint32_t crc32c(const uint8_t *data, size_t size) {
  static uint32_t table[256];
  if (table[1] == 0) {
    for (uint32_t index = 0; index < 256; index++) {
      uint32_t crc = index;
      for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
      table[index] = crc;
    }
  }
  uint32_t crc = 0xffffffffu;
  for (size_t index = 0; index < size; index++) crc = crc >> 8 ^ table[(crc ^ data[index]) & 0xff];
  return ~crc;
}

/* ------------------------------------------------------------------------------------------------------ requests */

static int64_t wall_ms(void) {
  return clock_ns(CLOCK_REALTIME) / 1000000;
}

/* A record batch of `count` records with values of `value_bytes`, no keys, no compression; bytes that do not compress well. */
static void put_batch(bytes *b, int64_t count, int64_t value_bytes) {
  size_t start = b->size;
  uint64_t state = 88172645463325252u;
  put_int(b, 0, 8);  /* base offset */
  put_int(b, 0, 4);  /* length: below */
  put_int(b, -1, 4); /* leader epoch */
  put_int(b, 2, 1);  /* magic */
  put_int(b, 0, 4);  /* crc: below */
  put_int(b, 0, 2);  /* attributes */
  put_int(b, count - 1, 4);
  int64_t stamp = wall_ms();
  put_int(b, stamp, 8);
  put_int(b, stamp, 8);
  put_int(b, -1, 8); /* producer id */
  put_int(b, -1, 2);
  put_int(b, -1, 4);
  put_int(b, count, 4);
  for (int64_t record = 0; record < count; record++) {
    bytes body = {0};
    put_int(&body, 0, 1);
    put_varint(&body, 0);      /* timestamp delta */
    put_varint(&body, record); /* offset delta */
    put_varint(&body, -1);     /* null key */
    put_varint(&body, value_bytes);
    for (int64_t index = 0; index < value_bytes; index++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      uint8_t letter = (uint8_t)('a' + state % 26);
      put(&body, &letter, 1);
    }
    put_varint(&body, 0); /* headers */
    put_varint(b, (int64_t)body.size);
    put(b, body.data, body.size);
    free(body.data);
  }
  set_int(b->data + start + 8, (int64_t)(b->size - start - 12), 4);
  set_int(b->data + start + 17, crc32c(b->data + start + 21, b->size - start - 21), 4);
}

/* As many records of --record-bytes as fit into --batch-bytes, one at least. */
static int64_t records_in_batch(const options *o) {
  bytes one = {0}, two = {0};
  put_batch(&one, 1, o->record_bytes);
  put_batch(&two, 2, o->record_bytes);
  int64_t each = (int64_t)(two.size - one.size) + 1;
  int64_t count = (o->batch_bytes - BATCH_HEADER_BYTES) / each;
  free(one.data);
  free(two.data);
  return count < 1 ? 1 : count;
}

static void put_produce(load *l, bytes *b, int64_t count, int64_t value_bytes) {
  put_int(b, -1, 2); /* transactional id */
  put_int(b, l->o.acks, 2);
  put_int(b, 30000, 4);
  put_int(b, 1, 4);
  put_string(b, l->o.topic);
  put_int(b, 1, 4);
  put_int(b, 0, 4); /* partition */
  size_t size_position = b->size;
  put_int(b, 0, 4);
  size_t batch = b->size;
  put_batch(b, count, value_bytes);
  set_int(b->data + size_position, (int64_t)(b->size - batch), 4);
  l->crc_position = batch + 17;
  l->stamp_position = b->size - (size_t)value_bytes - 1; /* of the last record, before its header count */
}

static void put_fetch(load *l, bytes *b) {
  put_int(b, -1, 4);  /* replica */
  put_int(b, 500, 4); /* max wait */
  put_int(b, 1, 4);   /* min bytes */
  put_int(b, l->o.fetch_bytes, 4);
  put_int(b, 0, 1); /* isolation */
  put_int(b, 0, 4); /* no session */
  put_int(b, -1, 4);
  put_int(b, 1, 4);
  put_string(b, l->o.topic);
  put_int(b, 1, 4);
  put_int(b, 0, 4);  /* partition */
  put_int(b, -1, 4); /* current leader epoch */
  l->offset_position = b->size;
  put_int(b, 0, 8);
  put_int(b, -1, 8); /* log start */
  put_int(b, l->o.fetch_bytes, 4);
  put_int(b, 0, 4);  /* forgotten topics */
  put_string(b, ""); /* rack */
}

static int version_of(int api_key) {
  switch (api_key) {
  case API_PRODUCE: return 8;
  case API_FETCH: return 11;
  case API_METADATA: return 4;
  default: return 2;
  }
}

/* What follows the prefix: the client id and the body. */
static bytes request_body(load *l, int api_key) {
  bytes b = {0};
  put_string(&b, "load");
  if (api_key == API_PRODUCE && l->o.mode == MODE_TAIL) {
    put_produce(l, &b, 1, l->o.record_bytes);
  } else if (api_key == API_PRODUCE) {
    put_produce(l, &b, l->records_per_batch, l->o.record_bytes);
  } else if (api_key == API_FETCH) {
    put_fetch(l, &b);
  } else if (api_key == API_METADATA) {
    put_int(&b, 1, 4);
    put_string(&b, l->o.topic);
    put_int(&b, 0, 1); /* do not create */
  }
  return b;
}

/* --------------------------------------------------------------------------------------------------- connections */

static void watch(load *l, connection *c, bool write, int operation) {
  struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};
  c->want_write = write;
  if (epoll_ctl(l->epoll, operation, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

static void open_connection(load *l, connection *c, int api_key, bytes body) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->o.port)};
  int yes = 1;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
    fail("connect to port %d: %s", l->o.port, strerror(errno));
  }
  if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0) fail("TCP_NODELAY: %s", strerror(errno));
  if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) fail("O_NONBLOCK: %s", strerror(errno));
  c->api_key = api_key;
  c->body = body.data;
  c->body_bytes = body.size;
  c->head = malloc(HEAD_BYTES);
  if (c->head == NULL) fail("no memory");
  watch(l, c, false, EPOLL_CTL_ADD);
}

/* Enter one more request; flush() sends it. */
static void enqueue(connection *c) {
  int slot = (c->first + c->count) % MAX_INFLIGHT;
  uint8_t *prefix = c->prefix[slot];
  set_int(prefix, (int64_t)(c->body_bytes + PREFIX_BYTES - 4), 4);
  set_int(prefix + 4, c->api_key, 2);
  set_int(prefix + 6, version_of(c->api_key), 2);
  set_int(prefix + 8, (int64_t)c->correlation++, 4);
  c->sent_ns[slot] = now_ns();
  c->count++;
  c->unsent++;
}

static int gather(connection *c, struct iovec *pieces) {
  int used = 0;
  for (int index = 0; index < c->unsent; index++) {
    int slot = (c->first + c->count - c->unsent + index) % MAX_INFLIGHT;
    size_t skip = index == 0 ? c->sent_bytes : 0;
    if (skip < PREFIX_BYTES) pieces[used++] = (struct iovec){c->prefix[slot] + skip, PREFIX_BYTES - skip};
    size_t body_skip = skip < PREFIX_BYTES ? 0 : skip - PREFIX_BYTES;
    pieces[used++] = (struct iovec){c->body + body_skip, c->body_bytes - body_skip};
  }
  return used;
}

static void flush(load *l, connection *c) {
  size_t request = PREFIX_BYTES + c->body_bytes;
  while (c->unsent > 0) {
    struct iovec pieces[2 * MAX_INFLIGHT];
    ssize_t sent = writev(c->fd, pieces, gather(c, pieces));
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) fail("write: %s", strerror(errno));
    c->sent_bytes += (size_t)sent;
    c->unsent -= (int)(c->sent_bytes / request);
    c->sent_bytes %= request;
  }
  if ((c->unsent > 0) != c->want_write) watch(l, c, c->unsent > 0, EPOLL_CTL_MOD);
}

/* ------------------------------------------------------------------------------------------------------- answers */

/* Position of the partition's fields in a Produce or Fetch answer about one topic: after the topic's name and the count. */
static size_t after_topic(const connection *c, size_t topics) {
  return topics + 4 + 2 + (size_t)get_int(c->head + topics + 4, 2) + 4;
}

static void produced(load *l, connection *c) {
  size_t at = after_topic(c, 8);
  int64_t error = get_int(c->head + at + 4, 2);
  if (error != 0) fail("Produce answered error %" PRId64, error);
  if (l->o.mode == MODE_TAIL) return;
  l->now.records += l->records_per_batch;
  l->now.bytes += (int64_t)c->body_bytes;
}

/* Every whole batch of a tail's answer tells how long its record was under way; the offset goes behind the last one. What
 * another run left in the topic is passed over: its records are as old as that. */
static void tailed(load *l, connection *c, size_t at, size_t end) {
  int64_t now = now_ns();
  while (at + BATCH_HEADER_BYTES < end) {
    size_t size = 12 + (size_t)get_int(c->head + at + 8, 4);
    if (at + size > end) break;
    c->offset = get_int(c->head + at, 8) + get_int(c->head + at + 23, 4) + 1;
    int64_t stamp = get_int(c->head + at + size - 1 - (size_t)l->o.record_bytes, 8);
    at += size;
    if (stamp < l->begun_ns) continue;
    count_latency(&l->now, now - stamp);
    l->now.records++;
  }
}

static void fetched(load *l, connection *c) {
  int64_t error = get_int(c->head + 12, 2);
  size_t at = after_topic(c, 18);
  if (error == 0) error = get_int(c->head + at + 4, 2);
  if (error != 0) fail("Fetch answered error %" PRId64, error);
  int64_t end = get_int(c->head + at + 6, 8);
  int64_t aborted = get_int(c->head + at + 30, 4);
  at += 34 + (aborted > 0 ? (size_t)aborted * 16 : 0) + 4;
  int64_t size = get_int(c->head + at, 4);
  l->now.bytes += size;
  if (l->o.mode == MODE_TAIL) {
    size_t kept = c->size + 4 < HEAD_BYTES ? c->size + 4 : HEAD_BYTES;
    tailed(l, c, at + 4, kept);
  } else {
    /* All batches have one size, so what came tells where to go on. */
    int64_t batches = size / l->o.batch_bytes;
    if (batches == 0) fail("an answer of %" PRId64 " bytes has no whole batch of %" PRId64, size, l->o.batch_bytes);
    c->offset += batches * l->records_per_batch;
    l->now.records += batches * l->records_per_batch;
    if (c->offset >= end) c->offset = 0;
  }
  set_int(c->body + l->offset_position, c->offset, 8);
}

static void answered(load *l, connection *c) {
  int64_t correlation = get_int(c->prefix[c->first] + 8, 4);
  if (get_int(c->head + 4, 4) != correlation) fail("answers out of order");
  if (c->count == c->unsent) fail("an answer to a request that was not sent");
  l->now.requests++;
  if (l->o.mode != MODE_TAIL) count_latency(&l->now, now_ns() - c->sent_ns[c->first]);
  c->first = (c->first + 1) % MAX_INFLIGHT;
  c->count--;
  if (c->api_key == API_PRODUCE) {
    produced(l, c);
  } else if (c->api_key == API_FETCH) {
    fetched(l, c);
  } else if (c->api_key == API_VERSIONS && get_int(c->head + 8, 2) != 0) {
    fail("ApiVersions answered error %" PRId64, get_int(c->head + 8, 2));
  }
  if (l->o.mode != MODE_TAIL || c->api_key == API_FETCH) enqueue(c);
}

/* Take what came: the head of each answer is kept, the rest only counted. */
static void take(load *l, connection *c, const uint8_t *data, size_t size) {
  while (size > 0) {
    size_t whole = c->got < 4 ? 4 : c->size + 4;
    size_t part = size < whole - c->got ? size : whole - c->got;
    if (c->got < HEAD_BYTES) {
      size_t room = HEAD_BYTES - c->got;
      memcpy(c->head + c->got, data, part < room ? part : room);
    }
    c->got += part;
    data += part;
    size -= part;
    if (c->got == 4) c->size = (size_t)get_int(c->head, 4);
    if (c->got > 4 && c->got == c->size + 4) {
      c->got = 0;
      answered(l, c);
    }
  }
}

static void receive(load *l, connection *c) {
  for (;;) {
    ssize_t size = recv(c->fd, l->scratch, SCRATCH_BYTES, 0);
    if (size == 0) fail("the broker closed a connection");
    if (size < 0 && errno == EAGAIN) return;
    if (size < 0) fail("receive: %s", strerror(errno));
    take(l, c, l->scratch, (size_t)size);
    if (size < SCRATCH_BYTES) return;
  }
}

/* ---------------------------------------------------------------------------------------------------------- runs */

/* The tail's next record: its time in its value, and the checksum made right again. */
static void produce_one(load *l, connection *c) {
  uint64_t expirations;
  if (read(l->timer, &expirations, sizeof expirations) < 0) return;
  if (c->count > 0) return; /* the broker is slower than the rate: skip a beat rather than queue */
  size_t batch = l->crc_position - 17;
  set_int(c->body + l->stamp_position, now_ns(), 8);
  set_int(c->body + l->crc_position, crc32c(c->body + batch + 21, c->body_bytes - batch - 21), 4);
  enqueue(c);
  flush(l, c);
}

static void start_timer(load *l) {
  int64_t period = 1000000000 / l->o.rate;
  struct timespec every = {.tv_sec = period / 1000000000, .tv_nsec = period % 1000000000};
  struct itimerspec times = {.it_interval = every, .it_value = every};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (l->timer < 0 || timerfd_settime(l->timer, 0, &times, NULL) != 0) fail("timer: %s", strerror(errno));
  if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

static void open_all(load *l) {
  static const int keys[] = {API_PRODUCE, API_FETCH, API_FETCH, API_VERSIONS, API_METADATA};
  for (int index = 0; index < l->o.connections; index++) {
    connection *c = &l->connections[index];
    bool writer = l->o.mode == MODE_TAIL && index == 0;
    open_connection(l, c, writer ? API_PRODUCE : keys[l->o.mode], request_body(l, writer ? API_PRODUCE : keys[l->o.mode]));
    if (writer) continue;
    for (int request = 0; request < l->o.inflight; request++) enqueue(c);
    flush(l, c);
  }
  if (l->o.mode == MODE_TAIL) start_timer(l);
}

static void reset(load *l) {
  memset(&l->now, 0, sizeof l->now);
  l->now.broker_cpu_ns = process_cpu_ns(l->o.broker_pid);
  l->now.own_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  l->now.started_ns = now_ns();
  l->deadline_ns = l->now.started_ns + (int64_t)(l->o.seconds * 1e9);
}

static bool finished(load *l) {
  int64_t now = now_ns();
  if (!l->warm) {
    if (now < l->warm_ns) return false;
    l->warm = true;
    reset(l);
    return false;
  }
  return now >= l->deadline_ns || (l->o.requests > 0 && l->now.requests >= l->o.requests);
}

static void run(load *l) {
  struct epoll_event events[256];
  while (!finished(l)) {
    int ready = epoll_wait(l->epoll, events, 256, 100);
    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int index = 0; index < ready; index++) {
      connection *c = events[index].data.ptr;
      if (c == NULL) {
        produce_one(l, &l->connections[0]);
        continue;
      }
      if (events[index].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(l, c);
      flush(l, c);
    }
  }
}

static void report(const load *l) {
  const counters *c = &l->now;
  double seconds = (double)(now_ns() - c->started_ns) / 1e9;
  double broker = (double)(process_cpu_ns(l->o.broker_pid) - c->broker_cpu_ns) / 1e9;
  double own = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - c->own_cpu_ns) / 1e9;
  printf("{\"mode\": \"%s\", \"connections\": %d, \"inflight\": %d, \"requests\": %" PRId64 ", \"records\": %" PRId64
         ", \"bytes\": %" PRId64 ", \"seconds\": %.6f, \"broker_cpu_seconds\": %.6f, \"load_cpu_seconds\": %.6f",
         l->o.mode_name, l->o.connections, l->o.inflight, c->requests, c->records, c->bytes, seconds, broker, own);
  printf(", \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"urgent\": %d}\n",
         percentile_us(c, 0.5), percentile_us(c, 0.9), percentile_us(c, 0.99), percentile_us(c, 0.999),
         (double)c->latency_max / 1000, l->o.urgent);
}

/* ------------------------------------------------------------------------------------------------------- options */

static bool set_number(options *o, const char *name, const char *text) {
  if (strcmp(name, "--port") == 0)
    o->port = (int)number(name, text, 1, 65535);
  else if (strcmp(name, "--connections") == 0)
    o->connections = (int)number(name, text, 1, 10000);
  else if (strcmp(name, "--inflight") == 0)
    o->inflight = (int)number(name, text, 1, MAX_INFLIGHT);
  else if (strcmp(name, "--acks") == 0)
    o->acks = (int)number(name, text, -1, 1);
  else if (strcmp(name, "--rate") == 0)
    o->rate = (int)number(name, text, 1, 1000000);
  else if (strcmp(name, "--record-bytes") == 0)
    o->record_bytes = number(name, text, 8, 1 << 24);
  else if (strcmp(name, "--batch-bytes") == 0)
    o->batch_bytes = number(name, text, 1, 1 << 26);
  else if (strcmp(name, "--fetch-bytes") == 0)
    o->fetch_bytes = number(name, text, 1, 1 << 30);
  else if (strcmp(name, "--requests") == 0)
    o->requests = number(name, text, 1, INT64_MAX);
  else if (strcmp(name, "--run-ms") == 0)
    o->seconds = (double)number(name, text, 1, 3600000) / 1000;
  else if (strcmp(name, "--warmup-ms") == 0)
    o->warmup = (double)number(name, text, 0, 3600000) / 1000;
  else if (strcmp(name, "--urgent") == 0)
    o->urgent = number(name, text, 0, 1) != 0;
  else if (strcmp(name, "--pid") == 0)
    o->broker_pid = (int)number(name, text, 1, INT32_MAX);
  else
    return false;
  return true;
}

static options read_options(int count, char **words) {
  static const char *const names[] = {"produce", "fetch", "tail", "apiversions", "metadata"};
  options o = {.connections = 1,
               .inflight = 1,
               .acks = 1,
               .rate = 1000,
               .record_bytes = 100,
               .batch_bytes = 1,
               .fetch_bytes = 1 << 20,
               .seconds = 5,
               .topic = "",
               .mode_name = NULL};
  for (size_t mode = 0; count > 1 && mode < sizeof names / sizeof *names; mode++) {
    if (strcmp(words[1], names[mode]) == 0) o.mode_name = names[mode], o.mode = (run_mode)mode;
  }
  if (o.mode_name == NULL) fail("usage: load produce|fetch|tail|apiversions|metadata --port P --topic T ...");
  for (int index = 2; index < count; index += 2) {
    if (index + 1 == count) fail("%s needs a value", words[index]);
    if (strcmp(words[index], "--topic") == 0)
      o.topic = words[index + 1];
    else if (!set_number(&o, words[index], words[index + 1]))
      fail("there is no option %s", words[index]);
  }
  if (o.port == 0) fail("--port is missing");
  if (o.mode == MODE_TAIL && o.connections < 2) fail("tail needs a writer and a reader: --connections 2 or more");
  if ((o.mode == MODE_FETCH || o.mode == MODE_TAIL) && o.inflight > 1) fail("%s has one request under way", o.mode_name);
  return o;
}

int main(int count, char **words) {
  load l = {.o = read_options(count, words)};
  if (l.o.urgent) l.o.urgent = sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}) == 0;
  l.records_per_batch = l.o.mode == MODE_TAIL ? 1 : records_in_batch(&l.o);
  if (l.o.mode == MODE_FETCH) {
    bytes batch = {0};
    put_batch(&batch, l.records_per_batch, l.o.record_bytes);
    l.o.batch_bytes = (int64_t)batch.size; /* what the same options made `load produce` write */
    free(batch.data);
  }
  l.epoll = epoll_create1(EPOLL_CLOEXEC);
  l.scratch = malloc(SCRATCH_BYTES);
  l.connections = calloc((size_t)l.o.connections, sizeof *l.connections);
  if (l.epoll < 0 || l.scratch == NULL || l.connections == NULL) fail("no memory");
  l.begun_ns = now_ns();
  l.warm_ns = l.begun_ns + (int64_t)(l.o.warmup * 1e9);
  open_all(&l);
  run(&l);
  report(&l);
  return 0;
}
