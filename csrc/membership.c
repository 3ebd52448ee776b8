/*
 * membership.c: the public functions about members of groups. See plog.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "command.h"
#include "members.h"
#include "reactor.h"
#include "wire.h"

static int32_t act_take_offsets(plog_engine *e, void *arguments) {
  const plog_offset_commits *as = arguments;
  if (!e->commits.builder) e->commits.builder = plog_batch_builder_open();
  if (!e->commits.builder) return -ENOMEM;
  e->commits.timeout_ms = as->timeout_ms;
  e->commits.metadata_max_bytes = as->metadata_max_bytes;
  return 0;
}

int32_t plog_engine_take_offsets(plog_engine *e, int32_t timeout_ms, int32_t metadata_max_bytes) {
  plog_offset_commits as = {.timeout_ms = timeout_ms, .metadata_max_bytes = PLOG_MIN(metadata_max_bytes, INT16_MAX)};
  return plog__command_run(e, act_take_offsets, &as);
}

int32_t plog_engine_publish_members(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, int32_t epoch,
                                    int64_t offsets, const uint8_t *members, size_t members_bytes) {
  if (group_id_bytes > INT16_MAX) return -EINVAL;
  plog_heartbeat as = {.group_id = {group_id, group_id_bytes}, .epoch = epoch};
  plog_reader r;
  plog_reader_init(&r, members, members_bytes);
  int32_t rc = 0;
  while (rc == 0 && r.left > 0) {
    as.member_id = plog_read_string(&r, false);
    as.instance_id = plog_read_nullable_string(&r, false);
    rc = plog_reader_status(&r) ? -EINVAL : plog__members_publish(&e->members, &as, offsets);
  }
  return rc;
}

/* The text of an address as plog_engine_peer gives it, as connections have theirs. */
static bool parse_host(plog_bytes text, uint8_t out[PLOG_HOST_BYTES]) {
  static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* of an address of IPv4 */
  char copy[INET6_ADDRSTRLEN] = {0};
  if (text.size_bytes == 0 || text.size_bytes >= sizeof copy) return false;
  memcpy(copy, text.data, text.size_bytes);
  memcpy(out, mapped, sizeof mapped);
  return inet_pton(AF_INET, copy, out + sizeof mapped) == 1 || inet_pton(AF_INET6, copy, out) == 1;
}

int32_t plog_engine_publish_consumer(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *member,
                                     size_t member_bytes, const plog_consumer_terms *terms) {
  uint8_t host[PLOG_HOST_BYTES];
  plog_reader r;
  plog_reader_init(&r, member, member_bytes);
  plog_consumer_heartbeat as = {.says = {.group_id = {group_id, group_id_bytes}, .epoch = terms->epoch}, .host = host};
  as.says.member_id = plog_read_string(&r, false);
  as.says.instance_id = plog_read_nullable_string(&r, false);
  as.client_id = plog_read_string(&r, false);
  plog_bytes host_text = plog_read_string(&r, false);
  if (group_id_bytes > INT16_MAX || plog_reader_status(&r) || r.left > 0 || !parse_host(host_text, host)) return -EINVAL;
  if (terms->heartbeat_interval_ms < 0) return -EINVAL;
  return plog__members_publish_consumer(&e->members, &as, terms);
}

int32_t plog_engine_topics_changed(plog_engine *e, int64_t topics) {
  plog__members_topics_changed(&e->members, topics);
  return 0;
}

int32_t plog_engine_withdraw_members(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *members,
                                     size_t members_bytes, int32_t forget) {
  plog_reader r;
  plog_reader_init(&r, members, members_bytes);
  while (r.left > 0) {
    plog_bytes member_id = plog_read_string(&r, false);
    if (plog_reader_status(&r)) return -EINVAL;
    plog__members_withdraw(&e->members, (plog_bytes){group_id, group_id_bytes}, member_id, forget != 0);
  }
  return 0;
}

int64_t plog_engine_member_heard(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *member_id,
                                 size_t member_id_bytes) {
  int64_t heard_ms =
      plog__members_heard_ms(&e->members, (plog_bytes){group_id, group_id_bytes}, (plog_bytes){member_id, member_id_bytes});
  return heard_ms < 0 ? -1 : PLOG_MAX(0, plog__sys_monotonic_ms(e->sys) - heard_ms);
}
