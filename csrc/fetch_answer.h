/*
 * fetch_answer.h: the answer to a Fetch of version 12 and up, read partition by partition.
 *
 * Bytes from another broker are as untrusted as a client's: nothing is looked at beyond them, nothing is allocated, and what a
 * partition points to borrows from them. plog__fetch_answer_check walks all of it, so that nothing is done on the word of an answer
 * that is broken further on.
 */
#ifndef PLOG_FETCH_ANSWER_H
#define PLOG_FETCH_ANSWER_H

#include "base.h"
#include "wire.h"

#define PLOG_FETCH_ANSWER_ID_VERSION 13 /* topics are named by id from here on */

typedef struct {
  plog_reader reader;
  int16_t version;
  int32_t error; /* of the whole request */
  int32_t session_id;
  int32_t topics_left;
  int32_t partitions_left; /* of the topic below */
  const uint8_t *topic_id; /* 16 bytes; NULL: by name */
  plog_bytes topic_name;
} plog_fetch_answer;

typedef struct {
  const uint8_t *topic_id;
  plog_bytes topic_name;
  int32_t index;
  int32_t error;
  int64_t high_watermark;
  int64_t log_start;
  bool diverging;
  int32_t diverging_epoch;
  int64_t diverging_end;
  int32_t leader_id; /* who leads instead, -1 unknown */
  int32_t leader_epoch;
  plog_bytes records;
} plog_fetch_answer_partition;

/* data: behind the size. 0 | PLOG_E_MALFORMED: the head is broken, or it answers another request */
int32_t plog__fetch_answer_begin(plog_fetch_answer *a, int16_t version, int32_t correlation_id, const uint8_t *data,
                                 size_t size_bytes);
/* The next partition; false: that was the last, or the bytes are broken. */
bool plog__fetch_answer_next(plog_fetch_answer *a, plog_fetch_answer_partition *out);
/* Is all that is left as it must be? 0 | PLOG_E_MALFORMED */
int32_t plog__fetch_answer_check(const plog_fetch_answer *a);

#endif
