/*
 * node.c: see node.h.
 */
#include "node.h"

#include <string.h>

void plog__nodes_deinit(plog_nodes *nodes) {
  while (nodes->first) {
    plog_node *node = nodes->first;
    nodes->first = node->next;
    free(node);
  }
}

static void forget(plog_nodes *nodes, int32_t listener_id, int32_t broker_id) {
  for (plog_node **at = &nodes->first; *at; at = &(*at)->next) {
    plog_node *node = *at;
    if (node->listener_id != listener_id || node->broker_id != broker_id) continue;
    *at = node->next;
    free(node);
    return;
  }
}

int32_t plog__nodes_publish(plog_nodes *nodes, int32_t listener_id, int32_t broker_id, const char *host, int32_t port,
                            const char *rack) {
  plog_node *node = NULL;
  if (host) {
    size_t host_bytes = strlen(host);
    size_t rack_bytes = rack ? strlen(rack) : 0;
    node = malloc(sizeof *node + host_bytes + rack_bytes);
    if (!node) return -ENOMEM;
    node->listener_id = listener_id;
    node->broker_id = broker_id;
    node->port = port;
    node->host_bytes = (uint32_t)host_bytes;
    node->rack_bytes = (uint32_t)rack_bytes;
    memcpy(node->text, host, host_bytes);
    if (rack_bytes) memcpy(node->text + host_bytes, rack, rack_bytes);
  }
  forget(nodes, listener_id, broker_id);
  if (node) {
    node->next = nodes->first;
    nodes->first = node;
  }
  return 0;
}

static const plog_node *find_node(const plog_nodes *nodes, int32_t listener_id, int32_t broker_id) {
  const plog_node *node = nodes->first;
  while (node && !(node->listener_id == listener_id && node->broker_id == broker_id)) node = node->next;
  return node;
}

bool plog__nodes_in_rack(const plog_nodes *nodes, int32_t listener_id, int32_t broker_id, plog_bytes rack) {
  const plog_node *node = find_node(nodes, listener_id, broker_id);
  return node && node->rack_bytes == rack.size_bytes &&
         memcmp(node->text + node->host_bytes, rack.data, rack.size_bytes) == 0;
}

void plog__named_nodes_add(plog_named_nodes *named, const plog_nodes *nodes, int32_t listener_id, int32_t broker_id) {
  for (int32_t i = 0; i < named->count; i++)
    if (named->nodes[i]->broker_id == broker_id) return;
  const plog_node *node = find_node(nodes, listener_id, broker_id);
  if (node && named->count < PLOG_NAMED_NODES_MAX) named->nodes[named->count++] = node;
}

static size_t node_bound(const plog_node *node) {
  return node->host_bytes + node->rack_bytes + 20;
}

size_t plog__named_nodes_bound(const plog_named_nodes *named) {
  size_t bound = 16;
  for (int32_t i = 0; i < named->count; i++) bound += node_bound(named->nodes[i]);
  return bound;
}

static size_t node_size(const plog_node *node) {
  return 4 + plog_uvarint_size(node->host_bytes + 1) + node->host_bytes + 4 + plog_uvarint_size(node->rack_bytes + 1) +
         node->rack_bytes + 1;
}

void plog__write_named_nodes(plog_writer *w, const plog_named_nodes *named) {
  if (named->count == 0) {
    plog_write_no_tags(w);
    return;
  }
  size_t size = plog_uvarint_size((uint64_t)named->count + 1);
  for (int32_t i = 0; i < named->count; i++) size += node_size(named->nodes[i]);
  plog_write_uvarint(w, 1);
  plog_write_uvarint(w, 0);
  plog_write_uvarint(w, (uint32_t)size);
  plog_write_array(w, true, named->count);
  for (int32_t i = 0; i < named->count; i++) {
    const plog_node *node = named->nodes[i];
    plog_write_i32(w, node->broker_id);
    plog_write_string(w, true, node->text, node->host_bytes);
    plog_write_i32(w, node->port);
    plog_write_string(w, true, node->rack_bytes ? node->text + node->host_bytes : NULL, node->rack_bytes);
    plog_write_no_tags(w);
  }
}

void plog__write_leader_tag(plog_writer *w, uint32_t tag, int32_t leader_id, int32_t leader_epoch) {
  plog_write_uvarint(w, tag);
  plog_write_uvarint(w, 9);
  plog_write_i32(w, leader_id);
  plog_write_i32(w, leader_epoch);
  plog_write_no_tags(w);
}
