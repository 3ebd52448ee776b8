/*
 * sys.h: the table of every system call and clock the library uses. Only sys.c calls the kernel.
 *
 * What stays true:
 *   - a call goes: count it, ask for an armed fault, then through the table; so a test can fail, shorten or record the n-th
 *     call of a library whose other users go on undisturbed (nothing here is global);
 *   - results are the kernel's, with -errno in place of -1 and errno. EINTR is retried here where the call is restartable
 *     and stays visible where the caller waits on purpose (epoll_wait).
 * Any thread may use a table at any time; only plog_sys.calls itself must be set before the first use.
 */
#ifndef PLOG_SYS_H
#define PLOG_SYS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "open_files.h"
#include "plog.h"

/* The kernel, or what stands in for it. Every entry answers as the kernel does, but with -errno for -1. */
typedef struct {
  void *context; /* first argument of every entry: what a wrapper needs to know */

  /* files */
  int (*open)(void *context, const char *path, int flags, mode_t mode);
  int (*close)(void *context, int fd);
  int64_t (*pwritev)(void *context, int fd, const struct iovec *pieces, int count, int64_t position);
  int64_t (*pwrite)(void *context, int fd, const void *data, size_t size_bytes, int64_t position);
  int64_t (*pread)(void *context, int fd, void *data, size_t size_bytes, int64_t position);
  int64_t (*preadv2)(void *context, int fd, const struct iovec *pieces, int count, int64_t position, int flags);
  int64_t (*cachestat)(void *context, int fd, int64_t position, int64_t size_bytes);
  int (*fadvise)(void *context, int fd, int64_t position, int64_t size_bytes, int advice);
  int (*ftruncate)(void *context, int fd, int64_t size_bytes);
  int (*fallocate)(void *context, int fd, int mode, int64_t position, int64_t size_bytes);
  int (*fsync)(void *context, int fd);
  int (*fdatasync)(void *context, int fd);
  int (*syncfs)(void *context, int fd);
  int (*syncfs_tells)(void *context, int fd);
  int (*rename)(void *context, const char *from, const char *to);
  int (*unlink)(void *context, const char *path);
  int (*fstat)(void *context, int fd, struct stat *out);
  int (*stat)(void *context, const char *path, struct stat *out);
  int64_t (*getdents)(void *context, int fd, void *entries, size_t size_bytes);
  int (*statvfs)(void *context, const char *path, struct statvfs *out);
  int (*set_modified)(void *context, int fd, int64_t wall_ms);
  int (*mmap)(void *context, size_t size_bytes, int protection, int flags, int fd, int64_t position, void **out);
  int (*munmap)(void *context, void *address, size_t size_bytes);
  int (*madvise)(void *context, void *address, size_t size_bytes, int advice);

  /* sockets and events */
  int64_t (*sendfile)(void *context, int socket, int fd, int64_t *position, size_t size_bytes);
  int64_t (*recv)(void *context, int socket, void *data, size_t size_bytes, int flags);
  int64_t (*send)(void *context, int socket, const void *data, size_t size_bytes, int flags);
  int64_t (*sendmsg)(void *context, int socket, const struct msghdr *message, int flags);
  int (*accept4)(void *context, int socket, struct sockaddr *address, socklen_t *address_bytes, int flags);
  int (*socket)(void *context, int domain, int type, int protocol);
  int (*bind)(void *context, int socket, const struct sockaddr *address, socklen_t address_bytes);
  int (*listen)(void *context, int socket, int backlog);
  int (*connect)(void *context, int socket, const struct sockaddr *address, socklen_t address_bytes);
  int (*shutdown)(void *context, int socket, int how);
  int (*getsockname)(void *context, int socket, struct sockaddr *address, socklen_t *address_bytes);
  int (*getsockopt)(void *context, int socket, int level, int name, void *value, socklen_t *value_bytes);
  int (*setsockopt)(void *context, int socket, int level, int name, const void *value, socklen_t value_bytes);
  int (*epoll_create1)(void *context, int flags);
  int (*epoll_ctl)(void *context, int epoll, int operation, int fd, struct epoll_event *event);
  int (*epoll_wait)(void *context, int epoll, struct epoll_event *events, int capacity, int timeout_ms);
  int (*eventfd)(void *context, unsigned initial, int flags);
  int64_t (*read)(void *context, int fd, void *data, size_t size_bytes);
  int64_t (*write)(void *context, int fd, const void *data, size_t size_bytes);

  /* threads */
  int (*ask_slice)(void *context, int64_t ns);

  /* clocks, in nanoseconds */
  int64_t (*wall_ns)(void *context);
  int64_t (*monotonic_ns)(void *context);
} plog_sys_calls;

struct plog_sys {
  plog_sys_calls calls;
  _Atomic int64_t count[PLOG_SYS_CALL_COUNT];
  _Atomic bool armed;         /* read at every counted call */
  pthread_mutex_t fault_lock; /* guards the rest */
  int32_t fault_call;         /* PLOG_SYS_*, -1 any */
  int32_t fault_error;
  int64_t fault_after; /* calls that still pass before the first one fails */
  int64_t fault_short_bytes;
  int64_t fault_repeat; /* calls that still fail, -1 for ever */

  plog_open_files open_files;    /* of all logs that use this table: descriptors are a process's, not a log's */
  _Atomic int64_t checked_bytes; /* of segments, in all openings so far: how far a recovery is */
};

/* Files. All return -errno for failure. */
int plog__sys_open(plog_sys *sys, const char *path, int flags, mode_t mode);
int plog__sys_close(plog_sys *sys, int fd);
int64_t plog__sys_pwritev(plog_sys *sys, int fd, const struct iovec *pieces, int count, int64_t position);
int64_t plog__sys_pwrite(plog_sys *sys, int fd, const void *data, size_t size_bytes, int64_t position);
int64_t plog__sys_pread(plog_sys *sys, int fd, void *data, size_t size_bytes, int64_t position);
/* flags: RWF_NOWAIT; -EAGAIN when the first byte is not in the page cache. Counted as PLOG_SYS_PREAD. */
int64_t plog__sys_preadv2(plog_sys *sys, int fd, const struct iovec *pieces, int count, int64_t position, int flags);
/* How many pages of a range are in the page cache; -ENOSYS before Linux 6.5. Not counted: it transfers nothing. */
int64_t plog__sys_cachestat(plog_sys *sys, int fd, int64_t position, int64_t size_bytes);
/* Not counted: it transfers nothing. */
int plog__sys_fadvise(plog_sys *sys, int fd, int64_t position, int64_t size_bytes, int advice);
int plog__sys_ftruncate(plog_sys *sys, int fd, int64_t size_bytes);
int plog__sys_fallocate(plog_sys *sys, int fd, int mode, int64_t position, int64_t size_bytes);
int plog__sys_fsync(plog_sys *sys, int fd);
int plog__sys_fdatasync(plog_sys *sys, int fd);
int plog__sys_syncfs(plog_sys *sys, int fd);
/* 0: syncfs tells of every write to the file system of fd that failed since fd was opened, of a file too that nobody has open any
 * more. Else -ENOSYS, the kernel does not, or -EOPNOTSUPP, the file system. Not counted: it transfers nothing. */
int plog__sys_syncfs_tells(plog_sys *sys, int fd);
int plog__sys_rename(plog_sys *sys, const char *from, const char *to);
int plog__sys_unlink(plog_sys *sys, const char *path);
int plog__sys_fstat(plog_sys *sys, int fd, struct stat *out);
int plog__sys_stat(plog_sys *sys, const char *path, struct stat *out);
/* The next entries of a directory, as struct dirent behind one another; 0: no more. */
int64_t plog__sys_getdents(plog_sys *sys, int fd, void *entries, size_t size_bytes);
int plog__sys_statvfs(plog_sys *sys, const char *path, struct statvfs *out);
/* When a file was last modified, in ms since the epoch. */
int plog__sys_set_modified(plog_sys *sys, int fd, int64_t wall_ms);
int plog__sys_mmap(plog_sys *sys, size_t size_bytes, int protection, int flags, int fd, int64_t position, void **out);
int plog__sys_munmap(plog_sys *sys, void *address, size_t size_bytes);
int plog__sys_madvise(plog_sys *sys, void *address, size_t size_bytes, int advice);

/* All size_bytes or an error: short transfers are continued. A file that ends early gives PLOG_E_SHORT. */
int32_t plog__sys_pread_all(plog_sys *sys, int fd, void *data, size_t size_bytes, int64_t position);
int32_t plog__sys_pwrite_all(plog_sys *sys, int fd, const void *data, size_t size_bytes, int64_t position);

/* Sockets and events. send and sendmsg count as PLOG_SYS_SEND. */
int64_t plog__sys_sendfile(plog_sys *sys, int socket, int fd, int64_t *position, size_t size_bytes);
int64_t plog__sys_recv(plog_sys *sys, int socket, void *data, size_t size_bytes, int flags);
int64_t plog__sys_send(plog_sys *sys, int socket, const void *data, size_t size_bytes, int flags);
int64_t plog__sys_sendmsg(plog_sys *sys, int socket, const struct msghdr *message, int flags);
int plog__sys_accept4(plog_sys *sys, int socket, struct sockaddr *address, socklen_t *address_bytes, int flags);
int plog__sys_socket(plog_sys *sys, int domain, int type, int protocol);
int plog__sys_bind(plog_sys *sys, int socket, const struct sockaddr *address, socklen_t address_bytes);
int plog__sys_listen(plog_sys *sys, int socket, int backlog);
/* Of a nonblocking socket: -EINPROGRESS, and it is writable when that has ended. Counted as PLOG_SYS_CONNECT. */
int plog__sys_connect(plog_sys *sys, int socket, const struct sockaddr *address, socklen_t address_bytes);
int plog__sys_shutdown(plog_sys *sys, int socket, int how);
int plog__sys_getsockname(plog_sys *sys, int socket, struct sockaddr *address, socklen_t *address_bytes);
int plog__sys_getsockopt(plog_sys *sys, int socket, int level, int name, void *value, socklen_t *value_bytes);
int plog__sys_setsockopt(plog_sys *sys, int socket, int level, int name, const void *value, socklen_t value_bytes);
int plog__sys_epoll_create1(plog_sys *sys, int flags);
int plog__sys_epoll_ctl(plog_sys *sys, int epoll, int operation, int fd, struct epoll_event *event);
/* Close what epoll watches. To close alone is not enough: as long as a child of the process has the descriptor, between its fork and
 * its exec or for longer, epoll goes on to tell of it, with the number that it was given. */
void plog__sys_close_watched(plog_sys *sys, int epoll, int fd);
int plog__sys_epoll_wait(plog_sys *sys, int epoll, struct epoll_event *events, int capacity, int timeout_ms);
int plog__sys_eventfd(plog_sys *sys, unsigned initial, int flags);
int64_t plog__sys_read(plog_sys *sys, int fd, void *data, size_t size_bytes);
int64_t plog__sys_write(plog_sys *sys, int fd, const void *data, size_t size_bytes);

/* Have the calling thread scheduled in slices of so many ns: it runs the sooner when it is woken, its share stays what it
 * is. Before Linux 6.12 that is without effect. Not counted: it transfers nothing. */
int plog__sys_ask_slice(plog_sys *sys, int64_t ns);

int64_t plog__sys_wall_ms(plog_sys *sys);
int64_t plog__sys_monotonic_ms(plog_sys *sys);
int64_t plog__sys_monotonic_ns(plog_sys *sys);

#endif
