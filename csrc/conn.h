/*
 * conn.h: one connection: receiving, framing, answers in request order, back-pressure.
 *
 * What stays true:
 *   - answers leave in the order of the requests, whatever order they are completed in;
 *   - bytes of a frame that was handed out stay where they are until plog__intake_settle, when what was staged is written;
 *   - memory follows bytes that came, never the size a client announces;
 *   - requests that wait are all Produces, or one Fetch, or offset commits with upcalls behind them: anything else waits unparsed behind them (the
 *     dispatcher sees to it), which is the order Kafka gives by serving one request of a connection at a time.
 * Reactor thread only. The addresses, listener and number never change, so another thread that holds the engine's connection
 * table may read them.
 */
#ifndef PLOG_CONN_H
#define PLOG_CONN_H

#include "answer_cache.h"
#include "base.h"
#include "buffer.h"
#include "disk_pool.h"
#include "inbox.h"
#include "out.h"
#include "plog.h"
#include "range_check.h"
#include "request_times.h"
#include "sys.h"
#include "timer.h"

typedef struct plog_conn plog_conn;
typedef struct plog_request plog_request;
typedef struct plog_verdicts plog_verdicts; /* one piece of memory (verify.h) */

typedef struct {
  /* Append the answer to out; nothing for a request without one. 0 | PLOG_E_CLOSED: close the connection instead | -ENOMEM */
  int32_t (*write)(plog_request *request, plog_out *out);
  /* Stop whatever it waits for and free it. */
  void (*close)(plog_request *request);
} plog_request_ops;

/* One request between its arrival and the sending of its answer: the start of produce.c's, fetch.c's and upcalled requests. */
struct plog_request {
  plog_request *next; /* on its connection, in order */
  plog_conn *conn;
  const plog_request_ops *ops;
  int64_t slot;
  int64_t came_ns;
  int64_t waits_ns; /* since when it waits by intention, until it is done: then how long it did. 0: it does, or did, not */
  int32_t correlation_id;
  int16_t api_key;
  int16_t api_version;
  int16_t kind; /* its times are told with (request_times.h) */
  bool done;
};

/* The header every request begins with. What it points to is the frame's. */
typedef struct {
  int16_t api_key;
  int16_t api_version;
  int32_t correlation_id;
  const uint8_t *client_id; /* NULL: null */
  int32_t client_id_bytes;
  uint8_t *body; /* after the client id: with a flexible header its tag section comes first */
  uint32_t body_bytes;
} plog_frame;

/* Where received bytes go; one per reactor. */
typedef struct {
  plog_sys *sys;
  plog_buffers *buffers;
  int32_t max_request_bytes;
  uint32_t low_water_max; /* 0: the kernel is not to be told how much of a frame is worth an event */
  plog_buffer *arena;     /* small frames of all connections, one after the other; start is unused */
  plog_buffer *retired;   /* buffers whose frames may be staged */
} plog_intake;

struct plog_conn {
  int64_t number;
  int fd;
  int32_t listener_id;
  int32_t principal; /* 0: its listener's */
  uint8_t peer[PLOG_ADDRESS_BYTES];
  uint8_t local[PLOG_ADDRESS_BYTES];
  plog_link ready;   /* in the reactor's list of those to be served, or of those that wait for Python to catch up */
  plog_link flush;   /* … of those with answers to send */
  plog_link closing; /* … of those to be closed at the end of the turn */
  plog_link idle;    /* … of all, longest silent first */
  int64_t active_ms;
  /* receiving */
  plog_buffer *in; /* its own buffer, or NULL */
  uint8_t *view;   /* received and not handed out yet: in `in`, or in the arena until the end of its service */
  uint32_t view_bytes;
  uint32_t low_water;    /* fewer bytes than these make no event */
  uint32_t expect_bytes; /* size of the last frame when it was large: the next one gets a buffer of its own at once */
  bool readable;         /* the socket may have more */
  int64_t noticed_ns;    /* when that was told, until its next service is over; 0: it was not */
  int64_t came_ns;       /* the frame that comes next: when it was first taken up; 0: it was not */
  bool hung_up;          /* the other side has ended: read to the end, short reads included */
  bool reset;            /* … in both directions: nobody is left to answer */
  /* answering */
  plog_request *first;
  plog_request *last;
  int32_t requests_count;
  int32_t waiting; /* of them, not done */
  int64_t next_slot;
  plog_out out;
  plog_answers answers; /* in out */
  bool socket_full;
  bool data; /* its last request was a Produce or a Fetch: it is served before others */
  /* why it is not read */
  bool paused;    /* its service ended before its bytes did: look again when one of these changes, or its load */
  bool blocked;   /* the next frame must wait until nothing waits before it */
  bool throttled; /* until `throttle` fires */
  bool closes;    /* at the end of the turn */
  plog_timer throttle;
  plog_verdicts *verdicts; /* about the frame that comes next; NULL mostly */
  bool upcalled;           /* Python has seen it: it is told of the end */
  /* a cold slice is being read by the disk pool, which owns this until its message is back */
  bool reading;
  plog_cold cold;
  plog_disk_task cold_task;
  plog_range_check cold_check;
  plog_range_result cold_result;
  int32_t cold_rc;
  void *engine;
};

void plog__intake_init(plog_intake *intake, plog_sys *sys, plog_buffers *buffers, int32_t max_request_bytes);
void plog__intake_deinit(plog_intake *intake);
/* Room for one more receive into the arena; false: settle first. */
bool plog__intake_has_room(const plog_intake *intake);
/* What was handed out is written or refused by now: its memory is free again. */
void plog__intake_settle(plog_intake *intake);

plog_conn *plog__conn_open(int64_t number, int fd, int32_t listener_id);
/* Close the socket and free everything; no request of it is staged. */
void plog__conn_close(plog_conn *conn, plog_sys *sys, int epoll_fd, plog_buffers *buffers);

/* One receive. > 0 bytes | 0: the other side has ended | -EAGAIN: nothing there | -errno; *out_drained: no more for now */
int64_t plog__conn_receive(plog_conn *conn, plog_intake *intake, bool *out_drained);
/*
 * The next whole frame, which stays in the view until plog__conn_consume.
 * 0 | PLOG_E_SHORT: more bytes are needed | PLOG_E_MALFORMED: an impossible size or header
 */
int32_t plog__conn_frame(const plog_conn *conn, const plog_intake *intake, plog_frame *out);
void plog__conn_consume(plog_conn *conn);
/* End of its service: what is left of the view moves out of the arena; a buffer without rest retires. 0 | -ENOMEM */
int32_t plog__conn_keep_rest(plog_conn *conn, plog_intake *intake);
/*
 * Then, when more is to come: in the middle of a large frame no event is made for each packet of it, but for its end, or for a
 * good piece; anything else is heard of at once. 0 | -errno: the connection would not hear of what comes next
 */
int32_t plog__conn_await(plog_conn *conn, plog_intake *intake);

#define PLOG_KIND_NONE (-1) /* nothing that a client sent: its times are not told */
/* A request that will be answered; its slot is its number on the connection, from 0. */
void plog__conn_enqueue(plog_conn *conn, plog_request *request);
/* It can be answered now. */
void plog__conn_done(plog_request *request);
plog_request *plog__conn_find(const plog_conn *conn, int64_t slot);
/* Move answers of done requests to the output, in order, as long as not too much is pending. As plog_request_ops.write. */
int32_t plog__conn_write_answers(plog_conn *conn);
/* Too much output or too many requests are pending: do not read on. */
bool plog__conn_is_loaded(const plog_conn *conn);

#endif
