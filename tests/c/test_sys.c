/* test_sys.c: calls are counted; an armed fault fails or shortens exactly the calls it names. */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>

#include "test.h"

static char path[] = "/tmp/plog_test_sys_XXXXXX";

static void faults(void) {
  plog_sys *sys = plog_sys_open();
  CHECK(sys);
  int fd = plog__sys_open(sys, path, O_RDWR | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  CHECK_EQ(plog_sys_count(sys, PLOG_SYS_OPEN), 1);
  CHECK_EQ(plog__sys_pwrite_all(sys, fd, "0123456789", 10, 0), 0);
  CHECK_EQ(plog_sys_count(sys, PLOG_SYS_PWRITE), 1);

  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITE, 2, ENOSPC, 0, 1), 0);
  CHECK_EQ(plog__sys_pwrite(sys, fd, "a", 1, 0), 1);
  CHECK_EQ(plog__sys_pwrite(sys, fd, "a", 1, 0), -ENOSPC);
  CHECK_EQ(plog__sys_pwrite(sys, fd, "a", 1, 0), 1);

  CHECK_EQ(plog_sys_fault(sys, -1, 1, EIO, 0, -1), 0);
  char out[16];
  CHECK_EQ(plog__sys_pread(sys, fd, out, 4, 0), -EIO);
  CHECK_EQ(plog__sys_fsync(sys, fd), -EIO);
  CHECK_EQ(plog__sys_syncfs(sys, fd), -EIO);
  int tells = plog__sys_syncfs_tells(sys, fd);
  CHECK(tells == 0 || tells == -ENOSYS || tells == -EOPNOTSUPP);
  CHECK_EQ(plog_sys_fault(sys, -1, 1, 0, 0, 0), 0); /* disarmed */

  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PREAD, 1, 0, 3, 1), 0);
  CHECK_EQ(plog__sys_pread(sys, fd, out, 10, 0), 3);
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PREAD, 1, 0, 3, -1), 0);
  CHECK_EQ(plog__sys_pread_all(sys, fd, out, 10, 0), 0); /* in steps of three */
  CHECK(memcmp(out, "a123456789", 10) == 0);
  CHECK_EQ(plog__sys_pread_all(sys, fd, out, 11, 0), PLOG_E_SHORT);

  struct iovec pieces[3] = {{"abc", 3}, {"def", 3}, {"ghi", 3}};
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITEV, 1, 0, 4, 1), 0);
  CHECK_EQ(plog__sys_pwritev(sys, fd, pieces, 3, 0), 4);
  CHECK_EQ(plog__sys_pwritev(sys, fd, pieces, 3, 0), 9);
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITEV, 1, 0, 0, -1), 0);
  CHECK_EQ(plog__sys_pwritev(sys, fd, pieces, 3, 0), 0);
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITE, 1, 0, 0, -1), 0);
  CHECK_EQ(plog__sys_pwrite_all(sys, fd, "a", 1, 0), -EIO); /* no progress is an error, not a loop */

  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_CALL_COUNT, 1, EIO, 0, 1), -EINVAL);
  CHECK_EQ(plog_sys_fault(sys, 0, 0, EIO, 0, 1), -EINVAL);
  CHECK_EQ(plog__sys_open(sys, "/nowhere/at/all", O_RDONLY, 0), -ENOENT);
  CHECK_EQ(plog__sys_close(sys, fd), 0);
  CHECK(plog__sys_wall_ms(sys) > 1500000000000);
  CHECK(plog__sys_monotonic_ms(sys) > 0);
  plog_sys_close(sys);
}

int main(void) {
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  (void)close(fd);
  RUN(faults);
  (void)unlink(path);
  return 0;
}
