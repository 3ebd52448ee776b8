/*
 * crc32c.h: CRC-32C (Castagnoli), as record batches and producer snapshots carry it.
 *
 * plog_crc32c() itself is in plog.h; it takes the fastest implementation this CPU has. The others are here so that tests can
 * hold each against the table.
 */
#ifndef PLOG_CRC32C_H
#define PLOG_CRC32C_H

#include "plog.h"

/* One implementation. run is NULL when this CPU cannot; it works on the complement of the CRC. */
typedef struct {
  const char *name;
  uint32_t (*run)(uint32_t crc, const uint8_t *data, size_t size_bytes);
} plog_crc32c_kind;

/* The i-th implementation, slowest first; 0 past the last. any */
int plog__crc32c_kind(int i, plog_crc32c_kind *out);

#endif
