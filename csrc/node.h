/*
 * node.h: the brokers' addresses on each listener, and how an answer tells a client that came to the wrong broker where to go
 * (KIP-951): the current leader of a partition, and the addresses of the leaders named.
 */
#ifndef PLOG_NODE_H
#define PLOG_NODE_H

#include "base.h"
#include "wire.h"

typedef struct plog_node plog_node;
struct plog_node {
  plog_node *next;
  int32_t listener_id;
  int32_t broker_id;
  int32_t port;
  uint32_t host_bytes;
  uint32_t rack_bytes; /* 0: null */
  uint8_t text[];      /* host, then rack */
};

typedef struct {
  plog_node *first;
} plog_nodes;

void plog__nodes_deinit(plog_nodes *nodes);
/* Enter or replace; host NULL: forget. 0 | -ENOMEM */
int32_t plog__nodes_publish(plog_nodes *nodes, int32_t listener_id, int32_t broker_id, const char *host, int32_t port,
                            const char *rack);

/* The broker is known on that listener, and is in that rack. */
bool plog__nodes_in_rack(const plog_nodes *nodes, int32_t listener_id, int32_t broker_id, plog_bytes rack);

/* Leaders named in one answer whose addresses are known; more than fit are left out, clients then ask for metadata. */
#define PLOG_NAMED_NODES_MAX 32
typedef struct {
  const plog_node *nodes[PLOG_NAMED_NODES_MAX];
  int32_t count;
} plog_named_nodes;

void plog__named_nodes_add(plog_named_nodes *named, const plog_nodes *nodes, int32_t listener_id, int32_t broker_id);
/* Upper bound of what plog__write_named_nodes writes. */
size_t plog__named_nodes_bound(const plog_named_nodes *named);
/* The last tag section of an answer: nothing, or tag 0 with the nodes. */
void plog__write_named_nodes(plog_writer *w, const plog_named_nodes *named);
/* One tagged LeaderIdAndEpoch, without the count of the section. */
#define PLOG_LEADER_TAG_BYTES 11
void plog__write_leader_tag(plog_writer *w, uint32_t tag, int32_t leader_id, int32_t leader_epoch);

#endif
