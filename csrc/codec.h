/*
 * codec.h: the compression codecs of record batches: gzip, snappy, lz4, zstd.
 *
 * libz, liblz4 and libzstd are taken from the machine with dlopen when a codec is first used: nothing is needed to build,
 * nothing is paid at start-up, and a missing library is PLOG_E_CODEC_MISSING for that codec alone. Snappy is ours.
 *
 * A decoder gives the decompressed bytes piece by piece, so that a batch can be walked in a bounded buffer whatever it
 * claims to become.
 */
#ifndef PLOG_CODEC_H
#define PLOG_CODEC_H

#include "plog.h"

typedef struct plog_decoder plog_decoder;

/* in is borrowed until close. 0 | PLOG_E_UNKNOWN_CODEC | PLOG_E_CODEC_MISSING | PLOG_CORRUPT_MESSAGE | -ENOMEM */
int32_t plog__decoder_open(int32_t codec, const uint8_t *in, size_t in_bytes, plog_decoder **out);
/* Up to capacity_bytes (≥ 1) more bytes; *out_bytes 0: the end. PLOG_CORRUPT_MESSAGE: the data are not what the codec writes,
   or end early. */
int32_t plog__decoder_read(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes);
void plog__decoder_close(plog_decoder *d); /* NULL is fine */

#endif
