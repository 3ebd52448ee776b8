#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

/* ---------------------------------------------------------------------------------------------- the kernel's side */

/* Make the call, again when a signal interrupted it, and turn -1 into -errno. */
#define KERNEL_RETRY(type, call)                       \
  do {                                                 \
    type kernel_result;                                \
    do {                                               \
      kernel_result = (call);                          \
    } while (kernel_result < 0 && errno == EINTR);     \
    return kernel_result < 0 ? -errno : kernel_result; \
  } while (0)

/* The same for calls that must not be repeated (close) or whose caller wants to see the signal (epoll_wait). */
#define KERNEL_ONCE(type, call)                        \
  do {                                                 \
    type kernel_result = (call);                       \
    return kernel_result < 0 ? -errno : kernel_result; \
  } while (0)

static int kernel_open(void *context, const char *path, int flags, mode_t mode) {
  (void)context;
  KERNEL_RETRY(int, open(path, flags, mode));
}
static int kernel_close(void *context, int fd) {
  (void)context;
  KERNEL_ONCE(int, close(fd));
}
static int64_t kernel_pwritev(void *context, int fd, const struct iovec *pieces, int count, int64_t position) {
  (void)context;
  if (count == 1) KERNEL_RETRY(int64_t, pwrite(fd, pieces->iov_base, pieces->iov_len, position)); /* 0.2 us less */
  KERNEL_RETRY(int64_t, pwritev(fd, pieces, count, position));
}
static int64_t kernel_pwrite(void *context, int fd, const void *data, size_t size_bytes, int64_t position) {
  (void)context;
  KERNEL_RETRY(int64_t, pwrite(fd, data, size_bytes, position));
}
static int64_t kernel_pread(void *context, int fd, void *data, size_t size_bytes, int64_t position) {
  (void)context;
  KERNEL_RETRY(int64_t, pread(fd, data, size_bytes, position));
}
static int64_t kernel_preadv2(void *context, int fd, const struct iovec *pieces, int count, int64_t position, int flags) {
  (void)context;
  KERNEL_RETRY(int64_t, preadv2(fd, pieces, count, position, flags));
}
static int64_t kernel_cachestat(void *context, int fd, int64_t position, int64_t size_bytes) {
  (void)context;
  enum { NUMBER = 451 }; /* the same on every architecture; libc has no name for it yet */
  struct {
    uint64_t offset, length;
  } range = {(uint64_t)position, (uint64_t)size_bytes};
  struct {
    uint64_t cached, dirty, written, evicted, lately_evicted;
  } pages;
  KERNEL_RETRY(int64_t, syscall(NUMBER, fd, &range, &pages, 0) ? -1 : (int64_t)pages.cached);
}
static int kernel_fadvise(void *context, int fd, int64_t position, int64_t size_bytes, int advice) {
  (void)context;
  return -posix_fadvise(fd, position, size_bytes, advice);
}
static int kernel_ftruncate(void *context, int fd, int64_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int, ftruncate(fd, size_bytes));
}
static int kernel_set_modified(void *context, int fd, int64_t wall_ms) {
  (void)context;
  const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {wall_ms / 1000, wall_ms % 1000 * 1000000}};
  return futimens(fd, times) < 0 ? -errno : 0;
}
static int kernel_fallocate(void *context, int fd, int mode, int64_t position, int64_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int, fallocate(fd, mode, position, size_bytes));
}
static int kernel_fsync(void *context, int fd) {
  (void)context;
  KERNEL_RETRY(int, fsync(fd));
}
static int kernel_fdatasync(void *context, int fd) {
  (void)context;
  KERNEL_RETRY(int, fdatasync(fd));
}
static int kernel_syncfs(void *context, int fd) {
  (void)context;
  KERNEL_RETRY(int, syncfs(fd));
}
/*
 * Writeback errors are told by syncfs since Linux 5.8, where each is noted in the superblock too, and what a file system says when
 * it commits its journal since 5.17. A stacked file system (overlay) hears of neither, of others we do not know.
 */
static int kernel_syncfs_tells(void *context, int fd) {
  (void)context;
  enum { MAJOR = 5, MINOR = 17 };
  struct utsname kernel;
  struct statfs where;
  if (uname(&kernel) < 0) return -errno;
  char *end;
  long major = strtol(kernel.release, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
  if (major < MAJOR || (major == MAJOR && minor < MINOR)) return -ENOSYS;
  if (fstatfs(fd, &where) < 0) return -errno;
  bool known = where.f_type == EXT4_SUPER_MAGIC || where.f_type == XFS_SUPER_MAGIC || where.f_type == BTRFS_SUPER_MAGIC;
  return known ? 0 : -EOPNOTSUPP;
}
static int kernel_rename(void *context, const char *from, const char *to) {
  (void)context;
  KERNEL_RETRY(int, rename(from, to));
}
static int kernel_unlink(void *context, const char *path) {
  (void)context;
  KERNEL_RETRY(int, unlink(path));
}
static int kernel_fstat(void *context, int fd, struct stat *out) {
  (void)context;
  KERNEL_RETRY(int, fstat(fd, out));
}
static int kernel_stat(void *context, const char *path, struct stat *out) {
  (void)context;
  KERNEL_RETRY(int, stat(path, out));
}
static int64_t kernel_getdents(void *context, int fd, void *entries, size_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int64_t, syscall(SYS_getdents64, fd, entries, size_bytes));
}
static int kernel_statvfs(void *context, const char *path, struct statvfs *out) {
  (void)context;
  KERNEL_RETRY(int, statvfs(path, out));
}
static int kernel_mmap(void *context, size_t size_bytes, int protection, int flags, int fd, int64_t position, void **out) {
  (void)context;
  void *address = mmap(NULL, size_bytes, protection, flags, fd, position);
  if (address == MAP_FAILED) return -errno;
  *out = address;
  return 0;
}
static int kernel_munmap(void *context, void *address, size_t size_bytes) {
  (void)context;
  KERNEL_ONCE(int, munmap(address, size_bytes));
}
static int kernel_madvise(void *context, void *address, size_t size_bytes, int advice) {
  (void)context;
  KERNEL_ONCE(int, madvise(address, size_bytes, advice));
}
static int64_t kernel_sendfile(void *context, int socket_fd, int fd, int64_t *position, size_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int64_t, sendfile(socket_fd, fd, position, size_bytes));
}
static int64_t kernel_recv(void *context, int socket_fd, void *data, size_t size_bytes, int flags) {
  (void)context;
  KERNEL_RETRY(int64_t, recv(socket_fd, data, size_bytes, flags));
}
static int64_t kernel_send(void *context, int socket_fd, const void *data, size_t size_bytes, int flags) {
  (void)context;
  KERNEL_RETRY(int64_t, send(socket_fd, data, size_bytes, flags));
}
static int64_t kernel_sendmsg(void *context, int socket_fd, const struct msghdr *message, int flags) {
  (void)context;
  KERNEL_RETRY(int64_t, sendmsg(socket_fd, message, flags));
}
static int kernel_accept4(void *context, int socket_fd, struct sockaddr *address, socklen_t *address_bytes, int flags) {
  (void)context;
  KERNEL_RETRY(int, accept4(socket_fd, address, address_bytes, flags));
}
static int kernel_socket(void *context, int domain, int type, int protocol) {
  (void)context;
  KERNEL_ONCE(int, socket(domain, type, protocol));
}
static int kernel_bind(void *context, int socket_fd, const struct sockaddr *address, socklen_t address_bytes) {
  (void)context;
  KERNEL_ONCE(int, bind(socket_fd, address, address_bytes));
}
static int kernel_listen(void *context, int socket_fd, int backlog) {
  (void)context;
  KERNEL_ONCE(int, listen(socket_fd, backlog));
}
static int kernel_connect(void *context, int socket_fd, const struct sockaddr *address, socklen_t address_bytes) {
  (void)context;
  KERNEL_ONCE(int, connect(socket_fd, address, address_bytes));
}
static int kernel_shutdown(void *context, int socket_fd, int how) {
  (void)context;
  KERNEL_ONCE(int, shutdown(socket_fd, how));
}
static int kernel_getsockname(void *context, int socket_fd, struct sockaddr *address, socklen_t *address_bytes) {
  (void)context;
  KERNEL_ONCE(int, getsockname(socket_fd, address, address_bytes));
}
static int kernel_getsockopt(void *context, int socket_fd, int level, int name, void *value, socklen_t *value_bytes) {
  (void)context;
  KERNEL_ONCE(int, getsockopt(socket_fd, level, name, value, value_bytes));
}
static int kernel_setsockopt(void *context, int socket_fd, int level, int name, const void *value, socklen_t value_bytes) {
  (void)context;
  KERNEL_ONCE(int, setsockopt(socket_fd, level, name, value, value_bytes));
}
static int kernel_epoll_create1(void *context, int flags) {
  (void)context;
  KERNEL_ONCE(int, epoll_create1(flags));
}
static int kernel_epoll_ctl(void *context, int epoll, int operation, int fd, struct epoll_event *event) {
  (void)context;
  KERNEL_ONCE(int, epoll_ctl(epoll, operation, fd, event));
}
static int kernel_epoll_wait(void *context, int epoll, struct epoll_event *events, int capacity, int timeout_ms) {
  (void)context;
  KERNEL_ONCE(int, epoll_wait(epoll, events, capacity, timeout_ms));
}
static int kernel_eventfd(void *context, unsigned initial, int flags) {
  (void)context;
  KERNEL_ONCE(int, eventfd(initial, flags));
}
static int64_t kernel_read(void *context, int fd, void *data, size_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int64_t, read(fd, data, size_bytes));
}
static int64_t kernel_write(void *context, int fd, const void *data, size_t size_bytes) {
  (void)context;
  KERNEL_RETRY(int64_t, write(fd, data, size_bytes));
}
/* libc has no names for these calls. What is asked of them is what holds already, but for the slice. */
static int kernel_ask_slice(void *context, int64_t ns) {
  (void)context;
  struct {
    uint32_t size_bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns, deadline, period;
  } attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0) return -errno;
  if (attributes.policy != SCHED_OTHER) return -EINVAL; /* somebody has chosen: of other policies it is something else */
  attributes.slice_ns = (uint64_t)ns;
  KERNEL_ONCE(int, (int)syscall(SYS_sched_setattr, 0, &attributes, 0));
}

static int64_t kernel_clock(clockid_t clock) {
  struct timespec t;
  plog_assert(clock_gettime(clock, &t) == 0);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static int64_t kernel_wall_ns(void *context) {
  (void)context;
  return kernel_clock(CLOCK_REALTIME);
}
static int64_t kernel_monotonic_ns(void *context) {
  (void)context;
  return kernel_clock(CLOCK_MONOTONIC);
}

static const plog_sys_calls kernel_calls = {
    .open = kernel_open,
    .close = kernel_close,
    .pwritev = kernel_pwritev,
    .pwrite = kernel_pwrite,
    .pread = kernel_pread,
    .preadv2 = kernel_preadv2,
    .cachestat = kernel_cachestat,
    .fadvise = kernel_fadvise,
    .ftruncate = kernel_ftruncate,
    .fallocate = kernel_fallocate,
    .set_modified = kernel_set_modified,
    .fsync = kernel_fsync,
    .fdatasync = kernel_fdatasync,
    .syncfs = kernel_syncfs,
    .syncfs_tells = kernel_syncfs_tells,
    .rename = kernel_rename,
    .unlink = kernel_unlink,
    .fstat = kernel_fstat,
    .stat = kernel_stat,
    .getdents = kernel_getdents,
    .statvfs = kernel_statvfs,
    .mmap = kernel_mmap,
    .munmap = kernel_munmap,
    .madvise = kernel_madvise,
    .sendfile = kernel_sendfile,
    .recv = kernel_recv,
    .send = kernel_send,
    .sendmsg = kernel_sendmsg,
    .accept4 = kernel_accept4,
    .socket = kernel_socket,
    .bind = kernel_bind,
    .listen = kernel_listen,
    .connect = kernel_connect,
    .shutdown = kernel_shutdown,
    .getsockname = kernel_getsockname,
    .getsockopt = kernel_getsockopt,
    .setsockopt = kernel_setsockopt,
    .epoll_create1 = kernel_epoll_create1,
    .epoll_ctl = kernel_epoll_ctl,
    .epoll_wait = kernel_epoll_wait,
    .eventfd = kernel_eventfd,
    .read = kernel_read,
    .write = kernel_write,
    .ask_slice = kernel_ask_slice,
    .wall_ns = kernel_wall_ns,
    .monotonic_ns = kernel_monotonic_ns,
};

plog_sys *plog_sys_open(void) {
  plog_sys *sys = calloc(1, sizeof *sys);
  if (!sys) return NULL;
  sys->calls = kernel_calls;
  if (pthread_mutex_init(&sys->fault_lock, NULL) != 0) {
    free(sys);
    return NULL;
  }
  plog__open_files_init(&sys->open_files);
  return sys;
}

void plog_sys_close(plog_sys *sys) {
  if (!sys) return;
  plog__open_files_deinit(&sys->open_files);
  (void)pthread_mutex_destroy(&sys->fault_lock);
  free(sys);
}

/* Half of what closed segments leave; the rest is for connections. Above a bound more would only be kernel memory. */
int64_t plog_sys_use_descriptors(plog_sys *sys) {
  enum { CLOSED = 3 * PLOG_OPEN_CLOSED_DEFAULT, ACTIVE_MIN = 64, ACTIVE_MAX = 32768 };
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
  struct rlimit raised = {limit.rlim_max, limit.rlim_max};
  if (limit.rlim_cur != limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  int64_t allowed = (int64_t)PLOG_MIN(limit.rlim_cur, (rlim_t)INT32_MAX);
  int64_t active = PLOG_MIN(PLOG_MAX((allowed - CLOSED) / 2, ACTIVE_MIN), ACTIVE_MAX);
  plog__open_files_limit(&sys->open_files, PLOG_FILES_ACTIVE, (int32_t)active);
  return allowed;
}

int64_t plog_sys_checked_bytes(plog_sys *sys) {
  return atomic_load_explicit(&sys->checked_bytes, memory_order_relaxed);
}

/* ---------------------------------------------------------------------------------------------- faults */

int32_t plog_sys_fault(plog_sys *sys, int32_t call, int64_t nth, int32_t error, int64_t short_bytes, int64_t repeat) {
  if (call < -1 || call >= PLOG_SYS_CALL_COUNT || nth < 1 || error < 0 || short_bytes < 0 || repeat < -1) return -EINVAL;
  (void)pthread_mutex_lock(&sys->fault_lock);
  sys->fault_call = call;
  sys->fault_after = nth - 1;
  sys->fault_error = error;
  sys->fault_short_bytes = short_bytes;
  sys->fault_repeat = repeat;
  atomic_store(&sys->armed, repeat != 0);
  (void)pthread_mutex_unlock(&sys->fault_lock);
  return 0;
}

int64_t plog_sys_count(plog_sys *sys, int32_t call) {
  int64_t sum = 0;
  for (int32_t i = 0; i < PLOG_SYS_CALL_COUNT; i++)
    if (call == i || call == -1) sum += atomic_load_explicit(&sys->count[i], memory_order_relaxed);
  return sum;
}

/* Ask the armed fault about this call: 0 go on (perhaps with fewer bytes, where the call transfers any), or -errno. */
static int take_fault(plog_sys *sys, int32_t call, size_t *size_bytes) {
  int error = 0;
  (void)pthread_mutex_lock(&sys->fault_lock);
  if (atomic_load(&sys->armed) && (sys->fault_call == -1 || sys->fault_call == call)) {
    if (sys->fault_after > 0) {
      sys->fault_after--;
    } else {
      if (sys->fault_repeat > 0 && --sys->fault_repeat == 0) atomic_store(&sys->armed, false);
      if (sys->fault_error)
        error = -sys->fault_error;
      else if (size_bytes && (uint64_t)sys->fault_short_bytes < *size_bytes)
        *size_bytes = (size_t)sys->fault_short_bytes;
    }
  }
  (void)pthread_mutex_unlock(&sys->fault_lock);
  return error;
}

static inline int enter(plog_sys *sys, int32_t call, size_t *size_bytes) {
  atomic_fetch_add_explicit(&sys->count[call], 1, memory_order_relaxed);
  if (__builtin_expect(!atomic_load_explicit(&sys->armed, memory_order_relaxed), 1)) return 0;
  return take_fault(sys, call, size_bytes);
}

static size_t pieces_size(const struct iovec *pieces, int count) {
  size_t sum = 0;
  for (int i = 0; i < count; i++) sum += pieces[i].iov_len;
  return sum;
}

/* The first size_bytes bytes of pieces, into out[0..count); returns how many pieces that takes. */
static int cut_pieces(const struct iovec *pieces, int count, size_t size_bytes, struct iovec *out) {
  int n = 0;
  for (; n < count && size_bytes > 0; n++) {
    out[n] = pieces[n];
    if (out[n].iov_len > size_bytes) out[n].iov_len = size_bytes;
    size_bytes -= out[n].iov_len;
  }
  return n;
}

/* ---------------------------------------------------------------------------------------------- files */

int plog__sys_open(plog_sys *sys, const char *path, int flags, mode_t mode) {
  int error = enter(sys, PLOG_SYS_OPEN, NULL);
  return error ? error : sys->calls.open(sys->calls.context, path, flags, mode);
}
int plog__sys_close(plog_sys *sys, int fd) {
  return sys->calls.close(sys->calls.context, fd);
}

int64_t plog__sys_pwritev(plog_sys *sys, int fd, const struct iovec *pieces, int count, int64_t position) {
  plog_assert(count >= 0 && count <= IOV_MAX);
  size_t size_bytes = SIZE_MAX;
  int error = enter(sys, PLOG_SYS_PWRITEV, &size_bytes);
  if (error) return error;
  if (size_bytes != SIZE_MAX && size_bytes < pieces_size(pieces, count)) {
    struct iovec cut[IOV_MAX];
    count = cut_pieces(pieces, count, size_bytes, cut);
    return count ? sys->calls.pwritev(sys->calls.context, fd, cut, count, position) : 0;
  }
  return sys->calls.pwritev(sys->calls.context, fd, pieces, count, position);
}
int64_t plog__sys_pwrite(plog_sys *sys, int fd, const void *data, size_t size_bytes, int64_t position) {
  int error = enter(sys, PLOG_SYS_PWRITE, &size_bytes);
  return error ? error : sys->calls.pwrite(sys->calls.context, fd, data, size_bytes, position);
}
int64_t plog__sys_pread(plog_sys *sys, int fd, void *data, size_t size_bytes, int64_t position) {
  int error = enter(sys, PLOG_SYS_PREAD, &size_bytes);
  return error ? error : sys->calls.pread(sys->calls.context, fd, data, size_bytes, position);
}
int64_t plog__sys_preadv2(plog_sys *sys, int fd, const struct iovec *pieces, int count, int64_t position, int flags) {
  plog_assert(count >= 0 && count <= IOV_MAX);
  size_t size_bytes = SIZE_MAX;
  int error = enter(sys, PLOG_SYS_PREAD, &size_bytes);
  if (error) return error;
  if (size_bytes != SIZE_MAX && size_bytes < pieces_size(pieces, count)) {
    struct iovec cut[IOV_MAX];
    count = cut_pieces(pieces, count, size_bytes, cut);
    return count ? sys->calls.preadv2(sys->calls.context, fd, cut, count, position, flags) : 0;
  }
  return sys->calls.preadv2(sys->calls.context, fd, pieces, count, position, flags);
}
int64_t plog__sys_cachestat(plog_sys *sys, int fd, int64_t position, int64_t size_bytes) {
  return sys->calls.cachestat(sys->calls.context, fd, position, size_bytes);
}
int plog__sys_fadvise(plog_sys *sys, int fd, int64_t position, int64_t size_bytes, int advice) {
  return sys->calls.fadvise(sys->calls.context, fd, position, size_bytes, advice);
}
int plog__sys_ftruncate(plog_sys *sys, int fd, int64_t size_bytes) {
  int error = enter(sys, PLOG_SYS_FTRUNCATE, NULL);
  return error ? error : sys->calls.ftruncate(sys->calls.context, fd, size_bytes);
}
int plog__sys_fallocate(plog_sys *sys, int fd, int mode, int64_t position, int64_t size_bytes) {
  int error = enter(sys, PLOG_SYS_FALLOCATE, NULL);
  return error ? error : sys->calls.fallocate(sys->calls.context, fd, mode, position, size_bytes);
}
int plog__sys_fsync(plog_sys *sys, int fd) {
  int error = enter(sys, PLOG_SYS_FSYNC, NULL);
  return error ? error : sys->calls.fsync(sys->calls.context, fd);
}
int plog__sys_fdatasync(plog_sys *sys, int fd) {
  int error = enter(sys, PLOG_SYS_FDATASYNC, NULL);
  return error ? error : sys->calls.fdatasync(sys->calls.context, fd);
}
int plog__sys_syncfs(plog_sys *sys, int fd) {
  int error = enter(sys, PLOG_SYS_SYNCFS, NULL);
  return error ? error : sys->calls.syncfs(sys->calls.context, fd);
}
int plog__sys_syncfs_tells(plog_sys *sys, int fd) {
  return sys->calls.syncfs_tells(sys->calls.context, fd);
}
int plog__sys_rename(plog_sys *sys, const char *from, const char *to) {
  int error = enter(sys, PLOG_SYS_RENAME, NULL);
  return error ? error : sys->calls.rename(sys->calls.context, from, to);
}
int plog__sys_unlink(plog_sys *sys, const char *path) {
  int error = enter(sys, PLOG_SYS_UNLINK, NULL);
  return error ? error : sys->calls.unlink(sys->calls.context, path);
}
int plog__sys_fstat(plog_sys *sys, int fd, struct stat *out) {
  return sys->calls.fstat(sys->calls.context, fd, out);
}
int64_t plog__sys_getdents(plog_sys *sys, int fd, void *entries, size_t size_bytes) {
  return sys->calls.getdents(sys->calls.context, fd, entries, size_bytes);
}
int plog__sys_statvfs(plog_sys *sys, const char *path, struct statvfs *out) {
  return sys->calls.statvfs(sys->calls.context, path, out);
}
int plog__sys_set_modified(plog_sys *sys, int fd, int64_t wall_ms) {
  return sys->calls.set_modified(sys->calls.context, fd, wall_ms);
}
int plog__sys_stat(plog_sys *sys, const char *path, struct stat *out) {
  return sys->calls.stat(sys->calls.context, path, out);
}
int plog__sys_mmap(plog_sys *sys, size_t size_bytes, int protection, int flags, int fd, int64_t position, void **out) {
  int error = enter(sys, PLOG_SYS_MMAP, NULL);
  return error ? error : sys->calls.mmap(sys->calls.context, size_bytes, protection, flags, fd, position, out);
}
int plog__sys_munmap(plog_sys *sys, void *address, size_t size_bytes) {
  return sys->calls.munmap(sys->calls.context, address, size_bytes);
}
int plog__sys_madvise(plog_sys *sys, void *address, size_t size_bytes, int advice) {
  return sys->calls.madvise(sys->calls.context, address, size_bytes, advice);
}

int32_t plog__sys_pread_all(plog_sys *sys, int fd, void *data, size_t size_bytes, int64_t position) {
  uint8_t *at = data;
  while (size_bytes > 0) {
    int64_t n = plog__sys_pread(sys, fd, at, size_bytes, position);
    if (n < 0) return (int32_t)n;
    if (n == 0) return PLOG_E_SHORT;
    at += n;
    position += n;
    size_bytes -= (size_t)n;
  }
  return 0;
}

int32_t plog__sys_pwrite_all(plog_sys *sys, int fd, const void *data, size_t size_bytes, int64_t position) {
  const uint8_t *at = data;
  while (size_bytes > 0) {
    int64_t n = plog__sys_pwrite(sys, fd, at, size_bytes, position);
    if (n < 0) return (int32_t)n;
    if (n == 0) return -EIO; /* a file that takes nothing and gives no reason */
    at += n;
    position += n;
    size_bytes -= (size_t)n;
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- sockets and events */

int64_t plog__sys_sendfile(plog_sys *sys, int socket_fd, int fd, int64_t *position, size_t size_bytes) {
  int error = enter(sys, PLOG_SYS_SENDFILE, &size_bytes);
  return error ? error : sys->calls.sendfile(sys->calls.context, socket_fd, fd, position, size_bytes);
}
int64_t plog__sys_recv(plog_sys *sys, int socket_fd, void *data, size_t size_bytes, int flags) {
  int error = enter(sys, PLOG_SYS_RECV, &size_bytes);
  return error ? error : sys->calls.recv(sys->calls.context, socket_fd, data, size_bytes, flags);
}
int64_t plog__sys_send(plog_sys *sys, int socket_fd, const void *data, size_t size_bytes, int flags) {
  int error = enter(sys, PLOG_SYS_SEND, &size_bytes);
  return error ? error : sys->calls.send(sys->calls.context, socket_fd, data, size_bytes, flags);
}
int64_t plog__sys_sendmsg(plog_sys *sys, int socket_fd, const struct msghdr *message, int flags) {
  plog_assert(message->msg_iovlen <= IOV_MAX);
  size_t size_bytes = SIZE_MAX;
  int error = enter(sys, PLOG_SYS_SEND, &size_bytes);
  if (error) return error;
  if (size_bytes != SIZE_MAX && size_bytes < pieces_size(message->msg_iov, (int)message->msg_iovlen)) {
    struct iovec cut[IOV_MAX];
    struct msghdr shorter = *message;
    shorter.msg_iovlen = (size_t)cut_pieces(message->msg_iov, (int)message->msg_iovlen, size_bytes, cut);
    shorter.msg_iov = cut;
    return shorter.msg_iovlen ? sys->calls.sendmsg(sys->calls.context, socket_fd, &shorter, flags) : 0;
  }
  return sys->calls.sendmsg(sys->calls.context, socket_fd, message, flags);
}
int plog__sys_accept4(plog_sys *sys, int socket_fd, struct sockaddr *address, socklen_t *address_bytes, int flags) {
  int error = enter(sys, PLOG_SYS_ACCEPT, NULL);
  return error ? error : sys->calls.accept4(sys->calls.context, socket_fd, address, address_bytes, flags);
}
int plog__sys_socket(plog_sys *sys, int domain, int type, int protocol) {
  return sys->calls.socket(sys->calls.context, domain, type, protocol);
}
int plog__sys_bind(plog_sys *sys, int socket_fd, const struct sockaddr *address, socklen_t address_bytes) {
  return sys->calls.bind(sys->calls.context, socket_fd, address, address_bytes);
}
int plog__sys_listen(plog_sys *sys, int socket_fd, int backlog) {
  return sys->calls.listen(sys->calls.context, socket_fd, backlog);
}
int plog__sys_connect(plog_sys *sys, int socket_fd, const struct sockaddr *address, socklen_t address_bytes) {
  int error = enter(sys, PLOG_SYS_CONNECT, NULL);
  return error ? error : sys->calls.connect(sys->calls.context, socket_fd, address, address_bytes);
}
int plog__sys_shutdown(plog_sys *sys, int socket_fd, int how) {
  return sys->calls.shutdown(sys->calls.context, socket_fd, how);
}
int plog__sys_getsockname(plog_sys *sys, int socket_fd, struct sockaddr *address, socklen_t *address_bytes) {
  return sys->calls.getsockname(sys->calls.context, socket_fd, address, address_bytes);
}
int plog__sys_getsockopt(plog_sys *sys, int socket_fd, int level, int name, void *value, socklen_t *value_bytes) {
  return sys->calls.getsockopt(sys->calls.context, socket_fd, level, name, value, value_bytes);
}
int plog__sys_setsockopt(plog_sys *sys, int socket_fd, int level, int name, const void *value, socklen_t value_bytes) {
  return sys->calls.setsockopt(sys->calls.context, socket_fd, level, name, value, value_bytes);
}
int plog__sys_epoll_create1(plog_sys *sys, int flags) {
  return sys->calls.epoll_create1(sys->calls.context, flags);
}
int plog__sys_epoll_ctl(plog_sys *sys, int epoll, int operation, int fd, struct epoll_event *event) {
  return sys->calls.epoll_ctl(sys->calls.context, epoll, operation, fd, event);
}
void plog__sys_close_watched(plog_sys *sys, int epoll, int fd) {
  (void)plog__sys_epoll_ctl(sys, epoll, EPOLL_CTL_DEL, fd, NULL);
  (void)plog__sys_close(sys, fd);
}
int plog__sys_epoll_wait(plog_sys *sys, int epoll, struct epoll_event *events, int capacity, int timeout_ms) {
  return sys->calls.epoll_wait(sys->calls.context, epoll, events, capacity, timeout_ms);
}
int plog__sys_eventfd(plog_sys *sys, unsigned initial, int flags) {
  return sys->calls.eventfd(sys->calls.context, initial, flags);
}
int64_t plog__sys_read(plog_sys *sys, int fd, void *data, size_t size_bytes) {
  return sys->calls.read(sys->calls.context, fd, data, size_bytes);
}
int64_t plog__sys_write(plog_sys *sys, int fd, const void *data, size_t size_bytes) {
  return sys->calls.write(sys->calls.context, fd, data, size_bytes);
}

/* ---------------------------------------------------------------------------------------------- clocks */

int64_t plog__sys_wall_ms(plog_sys *sys) {
  return sys->calls.wall_ns(sys->calls.context) / 1000000;
}
int plog__sys_ask_slice(plog_sys *sys, int64_t ns) {
  return sys->calls.ask_slice(sys->calls.context, ns);
}
int64_t plog__sys_monotonic_ns(plog_sys *sys) {
  return sys->calls.monotonic_ns(sys->calls.context);
}
int64_t plog__sys_monotonic_ms(plog_sys *sys) {
  return sys->calls.monotonic_ns(sys->calls.context) / 1000000;
}
