/*
 * snappy.h: one raw Snappy block, decoded and encoded. The stream framing around blocks is codec.c's.
 *
 * Decoding trusts nothing: it never reads or writes outside what it was given, and the size a block promises is held against
 * what its bytes could possibly become before anyone allocates for it.
 */
#ifndef PLOG_SNAPPY_H
#define PLOG_SNAPPY_H

#include <stddef.h>
#include <stdint.h>

/* The most that plog__snappy_encode takes at once. */
#define PLOG_SNAPPY_BLOCK_BYTES 32768

/* The size the block promises to have when decoded. 0 | PLOG_CORRUPT_MESSAGE when it cannot. */
int32_t plog__snappy_size(const uint8_t *in, size_t in_bytes, size_t *out_bytes);
/* Decode into out[0..out_bytes), the size plog__snappy_size gave. 0 | PLOG_CORRUPT_MESSAGE */
int32_t plog__snappy_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);
/* Largest size of an encoded block of size_bytes. */
size_t plog__snappy_bound(size_t size_bytes);
/* Encode at most PLOG_SNAPPY_BLOCK_BYTES into out, which has room for the bound; returns the encoded size. */
size_t plog__snappy_encode(const uint8_t *in, size_t in_bytes, uint8_t *out);

#endif
