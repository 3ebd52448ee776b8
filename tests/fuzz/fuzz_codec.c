/* fuzz_codec.c: the first byte chooses the codec; the rest is decompressed, whole and in pieces, with the same result. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { ROOM = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  int32_t codec = data[0] % 5;
  static uint8_t whole[ROOM], pieces[ROOM + 1];
  size_t n = 0, done = 0;
  int32_t rc = plog_codec_decompress(codec, data + 1, size_bytes - 1, whole, sizeof whole, &n);
  plog_decoder *d;
  int32_t opened = plog__decoder_open(codec, data + 1, size_bytes - 1, &d);
  if (opened != 0) {
    plog_assert(opened == rc);
    return 0;
  }
  int32_t read_rc;
  size_t got, step = 1;
  do {
    size_t room = sizeof pieces - done;
    read_rc = plog__decoder_read(d, pieces + done, room < step ? room : step, &got);
    if (read_rc == 0) done += got;
    step = step % 1000 + 37;
  } while (read_rc == 0 && got > 0 && done < sizeof pieces);
  plog__decoder_close(d);
  if (rc == 0) plog_assert(read_rc == 0 && done == n && memcmp(whole, pieces, n) == 0);
  if (rc == PLOG_E_BUFFER_TOO_SMALL) plog_assert(done == sizeof pieces || read_rc != 0);
  return 0;
}
