#include "codec.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "snappy.h"
#include "wire.h"

/* ---------------------------------------------------------------------------------------------- the libraries */

/* The parts of their stable ABIs that we call, declared here so that no headers are needed to build. */
typedef struct {
  const uint8_t *next_in;
  unsigned avail_in;
  unsigned long total_in;
  uint8_t *next_out;
  unsigned avail_out;
  unsigned long total_out;
  const char *message;
  void *state;
  void *(*allocate)(void *, unsigned, unsigned);
  void (*release)(void *, void *);
  void *opaque;
  int data_type;
  unsigned long adler;
  unsigned long reserved;
} z_stream;

enum { Z_OK = 0, Z_STREAM_END = 1, Z_MEM_ERROR = -4, Z_NO_FLUSH = 0, Z_FINISH = 4, Z_DEFLATED = 8 };
enum { Z_GZIP_WINDOW = 15 + 16, Z_MEMORY_LEVEL = 8 };

typedef struct {
  void *handle;
  int (*inflate_init)(z_stream *, int window_bits, const char *version, int stream_bytes);
  int (*inflate)(z_stream *, int flush);
  int (*inflate_reset)(z_stream *);
  int (*inflate_end)(z_stream *);
  int (*deflate_init)(z_stream *, int level, int method, int window_bits, int memory_level, int strategy,
                      const char *version, int stream_bytes);
  int (*deflate)(z_stream *, int flush);
  int (*deflate_end)(z_stream *);
} libz;

typedef struct {
  struct {
    int block_size_id; /* 4: 64 KB */
    int block_mode;    /* 1: independent */
    int content_checksum;
    int frame_type;
    unsigned long long content_size;
    unsigned dictionary_id;
    int block_checksum;
  } frame;
  int level;
  unsigned auto_flush;
  unsigned favor_decompression_speed;
  unsigned reserved[3];
} lz4_preferences;

enum { LZ4F_VERSION = 100, LZ4_64_KB = 4, LZ4_INDEPENDENT = 1 };

typedef struct {
  void *handle;
  unsigned (*is_error)(size_t code);
  size_t (*create)(void **context, unsigned version);
  size_t (*destroy)(void *context);
  size_t (*decompress)(void *context, void *out, size_t *out_bytes, const void *in, size_t *in_bytes, const void *options);
  size_t (*frame_bound)(size_t in_bytes, const lz4_preferences *preferences);
  size_t (*compress_frame)(void *out, size_t capacity_bytes, const void *in, size_t in_bytes,
                           const lz4_preferences *preferences);
} liblz4;

typedef struct {
  const void *data;
  size_t size_bytes;
  size_t position;
} zstd_in;

typedef struct {
  void *data;
  size_t size_bytes;
  size_t position;
} zstd_out;

typedef struct {
  void *handle;
  unsigned (*is_error)(size_t code);
  void *(*create)(void);
  size_t (*destroy)(void *stream);
  size_t (*decompress)(void *stream, zstd_out *out, zstd_in *in);
  size_t (*compress)(void *out, size_t capacity_bytes, const void *in, size_t in_bytes, int level);
  size_t (*bound)(size_t in_bytes);
} libzstd;

/* Loaded once for the process and kept; handle stays NULL when the library or one of its functions is not there. */
static libz the_libz;
static liblz4 the_liblz4;
static libzstd the_libzstd;

typedef struct {
  const char *name;
  void *target; /* a function pointer */
} symbol;

static void load(const char *file, void **handle, const symbol *symbols, size_t count) {
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  for (size_t i = 0; i < count; i++) {
    void *address = dlsym(library, symbols[i].name);
    if (!address) {
      (void)dlclose(library);
      return;
    }
    memcpy(symbols[i].target, &address, sizeof address);
  }
  *handle = library;
}

static void load_libz(void) {
  const symbol symbols[] = {
      {"inflateInit2_", &the_libz.inflate_init}, {"inflate", &the_libz.inflate},
      {"inflateReset", &the_libz.inflate_reset}, {"inflateEnd", &the_libz.inflate_end},
      {"deflateInit2_", &the_libz.deflate_init}, {"deflate", &the_libz.deflate},
      {"deflateEnd", &the_libz.deflate_end},
  };
  load("libz.so.1", &the_libz.handle, symbols, PLOG_COUNT_OF(symbols));
}

static void load_liblz4(void) {
  const symbol symbols[] = {
      {"LZ4F_isError", &the_liblz4.is_error},
      {"LZ4F_createDecompressionContext", &the_liblz4.create},
      {"LZ4F_freeDecompressionContext", &the_liblz4.destroy},
      {"LZ4F_decompress", &the_liblz4.decompress},
      {"LZ4F_compressFrameBound", &the_liblz4.frame_bound},
      {"LZ4F_compressFrame", &the_liblz4.compress_frame},
  };
  load("liblz4.so.1", &the_liblz4.handle, symbols, PLOG_COUNT_OF(symbols));
}

static void load_libzstd(void) {
  const symbol symbols[] = {
      {"ZSTD_isError", &the_libzstd.is_error},    {"ZSTD_createDStream", &the_libzstd.create},
      {"ZSTD_freeDStream", &the_libzstd.destroy}, {"ZSTD_decompressStream", &the_libzstd.decompress},
      {"ZSTD_compress", &the_libzstd.compress},   {"ZSTD_compressBound", &the_libzstd.bound},
  };
  load("libzstd.so.1", &the_libzstd.handle, symbols, PLOG_COUNT_OF(symbols));
}

static const libz *use_libz(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, load_libz);
  return the_libz.handle ? &the_libz : NULL;
}
static const liblz4 *use_liblz4(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, load_liblz4);
  return the_liblz4.handle ? &the_liblz4 : NULL;
}
static const libzstd *use_libzstd(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, load_libzstd);
  return the_libzstd.handle ? &the_libzstd : NULL;
}

/* ---------------------------------------------------------------------------------------------- decoding */

/* The framing that snappy-java puts around blocks: this, version and compatible version of 4 bytes each, then blocks of
   {encoded size of 4 bytes, raw block}. A stream may follow a stream. */
static const uint8_t xerial_magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
enum { XERIAL_HEADER_BYTES = 16 };

struct plog_decoder {
  int32_t codec;
  const uint8_t *at; /* of the input */
  size_t left;
  bool finished; /* the codec's end was seen */
  union {
    z_stream z;
    void *lz4;
    void *zstd;
    struct {
      bool framed;
      bool any;       /* there was at least a header */
      uint8_t *block; /* one decoded block, when the reader's buffer did not hold it */
      size_t block_capacity;
      size_t block_bytes;
      size_t block_taken;
    } snappy;
  } u;
};

static bool has_xerial_magic(const uint8_t *in, size_t in_bytes) {
  return in_bytes >= XERIAL_HEADER_BYTES && memcmp(in, xerial_magic, sizeof xerial_magic) == 0;
}

int32_t plog__decoder_open(int32_t codec, const uint8_t *in, size_t in_bytes, plog_decoder **out) {
  plog_decoder *d = calloc(1, sizeof *d);
  if (!d) return -ENOMEM;
  d->codec = codec;
  d->at = in;
  d->left = in_bytes;
  int32_t rc = 0;
  switch (codec) {
  case PLOG_CODEC_NONE: break;
  case PLOG_CODEC_GZIP:
    if (!use_libz())
      rc = PLOG_E_CODEC_MISSING;
    else if (the_libz.inflate_init(&d->u.z, Z_GZIP_WINDOW, "1.2.0", (int)sizeof(z_stream)) != Z_OK)
      rc = -ENOMEM;
    break;
  case PLOG_CODEC_SNAPPY: d->u.snappy.framed = has_xerial_magic(in, in_bytes); break;
  case PLOG_CODEC_LZ4:
    if (!use_liblz4())
      rc = PLOG_E_CODEC_MISSING;
    else if (the_liblz4.is_error(the_liblz4.create(&d->u.lz4, LZ4F_VERSION)))
      rc = -ENOMEM;
    break;
  case PLOG_CODEC_ZSTD:
    if (!use_libzstd())
      rc = PLOG_E_CODEC_MISSING;
    else if (!(d->u.zstd = the_libzstd.create()))
      rc = -ENOMEM;
    break;
  default: rc = PLOG_E_UNKNOWN_CODEC;
  }
  if (rc != 0) {
    free(d);
    return rc;
  }
  /* of no bytes at all, zstd makes none; the others want at least their header */
  if (in_bytes == 0 && codec == PLOG_CODEC_ZSTD) d->finished = true;
  *out = d;
  return 0;
}

void plog__decoder_close(plog_decoder *d) {
  if (!d) return;
  switch (d->codec) {
  case PLOG_CODEC_GZIP: (void)the_libz.inflate_end(&d->u.z); break;
  case PLOG_CODEC_SNAPPY: free(d->u.snappy.block); break;
  case PLOG_CODEC_LZ4: (void)the_liblz4.destroy(d->u.lz4); break;
  case PLOG_CODEC_ZSTD: (void)the_libzstd.destroy(d->u.zstd); break;
  default: break;
  }
  free(d);
}

static void consume(plog_decoder *d, size_t size_bytes) {
  plog_assert(size_bytes <= d->left);
  d->at += size_bytes;
  d->left -= size_bytes;
}

static int32_t read_none(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  size_t n = PLOG_MIN(capacity_bytes, d->left);
  if (n) memcpy(out, d->at, n);
  consume(d, n);
  *out_bytes = n;
  return 0;
}

static int32_t read_gzip(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  z_stream *z = &d->u.z;
  unsigned room = (unsigned)PLOG_MIN(capacity_bytes, (size_t)INT_MAX);
  z->next_out = out;
  z->avail_out = room;
  while (z->avail_out == room && !d->finished) {
    z->next_in = d->at;
    z->avail_in = (unsigned)PLOG_MIN(d->left, (size_t)INT_MAX);
    unsigned had = z->avail_in;
    int rc = the_libz.inflate(z, Z_NO_FLUSH);
    consume(d, had - z->avail_in);
    if (rc == Z_STREAM_END) {
      /* another member may follow; what is no member is passed over, as Java does */
      d->finished = d->left < 2 || d->at[0] != 0x1f || d->at[1] != 0x8b;
      if (!d->finished && the_libz.inflate_reset(z) != Z_OK) return PLOG_CORRUPT_MESSAGE;
      continue;
    }
    if (rc == Z_MEM_ERROR) return -ENOMEM;
    if (rc != Z_OK) return PLOG_CORRUPT_MESSAGE; /* Z_BUF_ERROR too: the input ends early */
  }
  *out_bytes = room - z->avail_out;
  return 0;
}

static int32_t read_lz4(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  *out_bytes = 0;
  while (*out_bytes == 0 && !d->finished) {
    size_t produced = capacity_bytes, consumed = d->left;
    size_t hint = the_liblz4.decompress(d->u.lz4, out, &produced, d->at, &consumed, NULL);
    if (the_liblz4.is_error(hint)) return PLOG_CORRUPT_MESSAGE;
    consume(d, consumed);
    *out_bytes = produced;
    d->finished = hint == 0;
    if (!d->finished && produced == 0 && consumed == 0) return PLOG_CORRUPT_MESSAGE; /* ends early */
  }
  return 0;
}

static int32_t read_zstd(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  zstd_out to = {out, capacity_bytes, 0};
  while (to.position == 0 && !d->finished) {
    zstd_in from = {d->at, d->left, 0};
    size_t hint = the_libzstd.decompress(d->u.zstd, &to, &from);
    if (the_libzstd.is_error(hint)) return PLOG_CORRUPT_MESSAGE;
    consume(d, from.position);
    if (hint == 0)
      d->finished = d->left == 0; /* else another frame follows */
    else if (to.position == 0 && from.position == 0)
      return PLOG_CORRUPT_MESSAGE; /* ends early */
  }
  *out_bytes = to.position;
  return 0;
}

/* Decode the block at in, into the reader's buffer when it fits, else into the decoder's own. */
static int32_t decode_block(plog_decoder *d, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t capacity_bytes,
                            size_t *out_bytes) {
  size_t size_bytes;
  int32_t rc = plog__snappy_size(in, in_bytes, &size_bytes);
  if (rc != 0) return rc;
  if (size_bytes <= capacity_bytes) {
    *out_bytes = size_bytes;
    return plog__snappy_decode(in, in_bytes, out, size_bytes);
  }
  if (size_bytes > d->u.snappy.block_capacity) {
    uint8_t *block = realloc(d->u.snappy.block, size_bytes);
    if (!block) return -ENOMEM;
    d->u.snappy.block = block;
    d->u.snappy.block_capacity = size_bytes;
  }
  rc = plog__snappy_decode(in, in_bytes, d->u.snappy.block, size_bytes);
  if (rc != 0) return rc;
  d->u.snappy.block_bytes = size_bytes;
  d->u.snappy.block_taken = 0;
  return 0;
}

static int32_t read_snappy(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  *out_bytes = 0;
  for (;;) {
    size_t ready = d->u.snappy.block_bytes - d->u.snappy.block_taken;
    if (ready > 0) {
      size_t n = PLOG_MIN(ready, capacity_bytes);
      memcpy(out, d->u.snappy.block + d->u.snappy.block_taken, n);
      d->u.snappy.block_taken += n;
      *out_bytes = n;
      return 0;
    }
    if (d->finished) return 0;
    if (d->left == 0) {
      d->finished = true;
      if (!d->u.snappy.any) return PLOG_CORRUPT_MESSAGE;
      return 0;
    }
    d->u.snappy.any = true;
    int32_t rc;
    if (!d->u.snappy.framed) {
      rc = decode_block(d, d->at, d->left, out, capacity_bytes, out_bytes);
      consume(d, d->left);
    } else if (has_xerial_magic(d->at, d->left)) {
      consume(d, XERIAL_HEADER_BYTES);
      continue;
    } else {
      if (d->left < 4) return PLOG_CORRUPT_MESSAGE;
      uint32_t size_bytes = plog_get_u32(d->at);
      if (size_bytes > d->left - 4) return PLOG_CORRUPT_MESSAGE;
      rc = decode_block(d, d->at + 4, size_bytes, out, capacity_bytes, out_bytes);
      consume(d, 4 + (size_t)size_bytes);
    }
    if (rc != 0) return rc;
    if (*out_bytes > 0) return 0;
  }
}

int32_t plog__decoder_read(plog_decoder *d, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  plog_assert(capacity_bytes > 0);
  switch (d->codec) {
  case PLOG_CODEC_GZIP: return read_gzip(d, out, capacity_bytes, out_bytes);
  case PLOG_CODEC_SNAPPY: return read_snappy(d, out, capacity_bytes, out_bytes);
  case PLOG_CODEC_LZ4: return read_lz4(d, out, capacity_bytes, out_bytes);
  case PLOG_CODEC_ZSTD: return read_zstd(d, out, capacity_bytes, out_bytes);
  default: return read_none(d, out, capacity_bytes, out_bytes);
  }
}

int32_t plog_codec_decompress(int32_t codec, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_capacity_bytes,
                              size_t *out_bytes) {
  plog_decoder *d;
  int32_t rc = plog__decoder_open(codec, in, in_bytes, &d);
  if (rc != 0) return rc;
  size_t done = 0;
  for (;;) {
    uint8_t beyond; /* with the room used up, one more byte means that there is too much */
    size_t room = out_capacity_bytes - done, n;
    rc = plog__decoder_read(d, room ? out + done : &beyond, room ? room : 1, &n);
    if (rc != 0 || n == 0) break;
    if (room == 0) {
      rc = PLOG_E_BUFFER_TOO_SMALL;
      break;
    }
    done += n;
  }
  plog__decoder_close(d);
  if (rc == 0) *out_bytes = done;
  return rc;
}

/* ---------------------------------------------------------------------------------------------- encoding */

size_t plog_codec_bound(int32_t codec, size_t size_bytes) {
  switch (codec) {
  case PLOG_CODEC_GZIP: /* stored blocks, header and trailer */
    return size_bytes + (size_bytes >> 12) + (size_bytes >> 14) + 64;
  case PLOG_CODEC_SNAPPY:
    return XERIAL_HEADER_BYTES +
           (size_bytes / PLOG_SNAPPY_BLOCK_BYTES + 1) * (4 + plog__snappy_bound(PLOG_SNAPPY_BLOCK_BYTES));
  case PLOG_CODEC_LZ4: /* blocks kept as they are, with their sizes; frame header and end mark */
    return size_bytes + (size_bytes / 65536 + 1) * 4 + 64;
  case PLOG_CODEC_ZSTD: return size_bytes + (size_bytes >> 8) + 1024;
  default: return size_bytes;
  }
}

static int32_t encode_gzip(int32_t level, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t capacity_bytes,
                           size_t *out_bytes) {
  if (!use_libz()) return PLOG_E_CODEC_MISSING;
  if (in_bytes > INT_MAX || capacity_bytes > UINT_MAX) return -EINVAL;
  z_stream z = {0};
  if (the_libz.deflate_init(&z, level == INT32_MIN ? -1 : level, Z_DEFLATED, Z_GZIP_WINDOW, Z_MEMORY_LEVEL, 0, "1.2.0",
                            (int)sizeof z) != Z_OK)
    return -EINVAL;
  z.next_in = in;
  z.avail_in = (unsigned)in_bytes;
  z.next_out = out;
  z.avail_out = (unsigned)capacity_bytes;
  int rc = the_libz.deflate(&z, Z_FINISH);
  *out_bytes = capacity_bytes - z.avail_out;
  (void)the_libz.deflate_end(&z);
  return rc == Z_STREAM_END ? 0 : PLOG_E_BUFFER_TOO_SMALL;
}

static int32_t encode_snappy(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t capacity_bytes, size_t *out_bytes) {
  uint8_t block[PLOG_SNAPPY_BLOCK_BYTES + PLOG_SNAPPY_BLOCK_BYTES / 6 + 32];
  plog_writer w;
  plog_writer_fixed(&w, out, capacity_bytes);
  plog_write_raw(&w, xerial_magic, sizeof xerial_magic);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 1);
  while (in_bytes > 0) {
    size_t n = PLOG_MIN(in_bytes, (size_t)PLOG_SNAPPY_BLOCK_BYTES);
    size_t encoded = plog__snappy_encode(in, n, block);
    plog_write_i32(&w, (int32_t)encoded);
    plog_write_raw(&w, block, encoded);
    in += n;
    in_bytes -= n;
  }
  *out_bytes = w.size_bytes;
  return w.status;
}

/* Kafka's default level 9 is the fast compressor of lz4-java; only other levels ask for the slow one. */
#define LZ4_KAFKA_DEFAULT 9

static int32_t encode_lz4(int32_t level, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t capacity_bytes,
                          size_t *out_bytes) {
  if (!use_liblz4()) return PLOG_E_CODEC_MISSING;
  lz4_preferences preferences = {0};
  preferences.frame.block_size_id = LZ4_64_KB;
  preferences.frame.block_mode = LZ4_INDEPENDENT;
  preferences.level = level == INT32_MIN || level == LZ4_KAFKA_DEFAULT ? 0 : level;
  /* the library wants room for its own bound, even where the result is smaller */
  size_t bound = the_liblz4.frame_bound(in_bytes, &preferences);
  uint8_t *own = bound <= capacity_bytes ? NULL : malloc(bound);
  if (bound > capacity_bytes && !own) return -ENOMEM;
  size_t n = the_liblz4.compress_frame(own ? own : out, own ? bound : capacity_bytes, in, in_bytes, &preferences);
  int32_t rc = the_liblz4.is_error(n) ? -EINVAL : n > capacity_bytes ? PLOG_E_BUFFER_TOO_SMALL : 0;
  if (rc == 0) {
    if (own) memcpy(out, own, n);
    *out_bytes = n;
  }
  free(own);
  return rc;
}

#define ZSTD_KAFKA_DEFAULT 3

static int32_t encode_zstd(int32_t level, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t capacity_bytes,
                           size_t *out_bytes) {
  if (!use_libzstd()) return PLOG_E_CODEC_MISSING;
  size_t n = the_libzstd.compress(out, capacity_bytes, in, in_bytes, level == INT32_MIN ? ZSTD_KAFKA_DEFAULT : level);
  if (the_libzstd.is_error(n)) return capacity_bytes < the_libzstd.bound(in_bytes) ? PLOG_E_BUFFER_TOO_SMALL : -EINVAL;
  *out_bytes = n;
  return 0;
}

int32_t plog_codec_compress(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes, uint8_t *out,
                            size_t out_capacity_bytes, size_t *out_bytes) {
  switch (codec) {
  case PLOG_CODEC_NONE:
    if (in_bytes > out_capacity_bytes) return PLOG_E_BUFFER_TOO_SMALL;
    if (in_bytes) memcpy(out, in, in_bytes);
    *out_bytes = in_bytes;
    return 0;
  case PLOG_CODEC_GZIP: return encode_gzip(level, in, in_bytes, out, out_capacity_bytes, out_bytes);
  case PLOG_CODEC_SNAPPY: return encode_snappy(in, in_bytes, out, out_capacity_bytes, out_bytes);
  case PLOG_CODEC_LZ4: return encode_lz4(level, in, in_bytes, out, out_capacity_bytes, out_bytes);
  case PLOG_CODEC_ZSTD: return encode_zstd(level, in, in_bytes, out, out_capacity_bytes, out_bytes);
  default: return PLOG_E_UNKNOWN_CODEC;
  }
}
