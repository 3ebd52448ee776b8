#include "disk_model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "test.h"

enum {
  SECTOR_BYTES = 512,
  FILES_MAX = 512,
  NAMES_MAX = 256,
  NAME_BYTES = 64,
  FDS_MAX = 512,
  FIRST_FD = 10000,
  MAPS_MAX = 16
};

/* A change of a file since it was synced. */
typedef struct {
  int64_t position;   /* WRITE: where; SIZE: the new size */
  size_t size_bytes;  /* WRITE */
  uint8_t *data;      /* WRITE; NULL: a change of size */
  int64_t file_bytes; /* the file's size behind it */
} file_change;

typedef struct {
  uint8_t *data;
  size_t size_bytes, capacity_bytes;
} image;

typedef struct {
  bool used;
  bool reached; /* by a name or a descriptor, when looked for */
  bool lost;    /* what was written was written back in vain; nothing more reaches the platters */
  image seen, durable;
  file_change *changes;
  int32_t changes_count, changes_capacity;
  int64_t modified_ms;
} file;

/* The directory: names and which file each is of. */
typedef struct {
  char name[NAMES_MAX][NAME_BYTES];
  int32_t file[NAMES_MAX];
  int32_t count;
} directory;

/* A change of the directory. from "": a creation; to "": a removal. */
typedef struct {
  char from[NAME_BYTES], to[NAME_BYTES];
  int32_t file;
} name_change;

/* A shared mapping: bytes of a file from position on, as whoever mapped them sees and changes them. */
typedef struct {
  uint8_t *memory; /* NULL: a free place */
  size_t size_bytes;
  int64_t position;
  int32_t file;
} mapping;

enum { FD_FREE = -2, FD_DIRECTORY = -1 };

struct disk_model {
  file files[FILES_MAX];
  directory seen, durable;
  name_change *changes;
  int32_t changes_count, changes_capacity;
  int32_t fds[FDS_MAX];       /* a file, or one of FD_ */
  int32_t fd_errors[FDS_MAX]; /* what errors was when it was opened, or its syncfs told of it */
  int32_t errors;             /* of writing back, so far */
  mapping maps[MAPS_MAX];
  plog_sys_calls kernel; /* for memory that is of no file */
  int64_t made;          /* changes */
  int64_t cut_at;        /* value of made at which the power goes; 0: never */
  bool dead;
};

/* ---------------------------------------------------------------------------------------------- images */

static void image_resize(image *i, size_t size_bytes) {
  if (size_bytes > i->capacity_bytes) {
    size_t capacity = size_bytes * 2;
    i->data = realloc(i->data, capacity);
    CHECK(i->data);
    i->capacity_bytes = capacity;
  }
  if (size_bytes > i->size_bytes) memset(i->data + i->size_bytes, 0, size_bytes - i->size_bytes);
  i->size_bytes = size_bytes;
}

static void image_write(image *i, const uint8_t *data, size_t size_bytes, size_t position) {
  if (size_bytes == 0) return;
  if (position + size_bytes > i->size_bytes) image_resize(i, position + size_bytes);
  memcpy(i->data + position, data, size_bytes);
}

static void image_copy(image *to, const image *from) {
  to->size_bytes = 0;
  image_resize(to, from->size_bytes);
  if (from->size_bytes > 0) memcpy(to->data, from->data, from->size_bytes);
}

/* ---------------------------------------------------------------------------------------------- files */

static void forget_changes(file *f) {
  for (int32_t i = 0; i < f->changes_count; i++) free(f->changes[i].data);
  f->changes_count = 0;
}

static void file_free(file *f) {
  forget_changes(f);
  free(f->changes);
  free(f->seen.data);
  free(f->durable.data);
  memset(f, 0, sizeof *f);
}

static file_change *add_change(file *f) {
  if (f->changes_count == f->changes_capacity) {
    f->changes_capacity = f->changes_capacity * 2 + 8;
    f->changes = realloc(f->changes, (size_t)f->changes_capacity * sizeof *f->changes);
    CHECK(f->changes);
  }
  file_change *c = &f->changes[f->changes_count++];
  memset(c, 0, sizeof *c);
  return c;
}

static void file_write(file *f, const uint8_t *data, size_t size_bytes, int64_t position) {
  if (size_bytes == 0) return;
  image_write(&f->seen, data, size_bytes, (size_t)position);
  file_change *c = add_change(f);
  c->position = position;
  c->size_bytes = size_bytes;
  c->data = malloc(size_bytes);
  CHECK(c->data);
  memcpy(c->data, data, size_bytes);
  c->file_bytes = (int64_t)f->seen.size_bytes;
}

static void file_resize(file *f, int64_t size_bytes) {
  image_resize(&f->seen, (size_t)size_bytes);
  file_change *c = add_change(f);
  c->position = c->file_bytes = size_bytes;
}

static void file_sync(file *f) {
  if (!f->lost) image_copy(&f->durable, &f->seen);
  forget_changes(f);
}

/* Drop the files that neither a name nor a descriptor leads to. */
static void collect(disk_model *d) {
  for (int32_t i = 0; i < FILES_MAX; i++) d->files[i].reached = false;
  for (int32_t i = 0; i < d->seen.count; i++) d->files[d->seen.file[i]].reached = true;
  for (int32_t i = 0; i < d->durable.count; i++) d->files[d->durable.file[i]].reached = true;
  for (int32_t i = 0; i < d->changes_count; i++) d->files[d->changes[i].file].reached = true;
  for (int32_t i = 0; i < FDS_MAX; i++)
    if (d->fds[i] >= 0) d->files[d->fds[i]].reached = true;
  for (int i = 0; i < MAPS_MAX; i++)
    if (d->maps[i].memory) d->files[d->maps[i].file].reached = true;
  for (int32_t i = 0; i < FILES_MAX; i++)
    if (d->files[i].used && !d->files[i].reached) file_free(&d->files[i]);
}

static int32_t new_file(disk_model *d) {
  for (int round = 0; round < 2; round++) {
    for (int32_t i = 0; i < FILES_MAX; i++)
      if (!d->files[i].used) {
        d->files[i].used = true;
        return i;
      }
    collect(d);
  }
  CHECK(!"more files than the disk has room for");
  return -1;
}

/* ---------------------------------------------------------------------------------------------- names */

static int32_t find_name(const directory *dir, const char *name) {
  for (int32_t i = 0; i < dir->count; i++)
    if (strcmp(dir->name[i], name) == 0) return i;
  return -1;
}

static void remove_name(directory *dir, const char *name) {
  int32_t i = find_name(dir, name);
  if (i < 0) return;
  dir->count--;
  memmove(dir->name[i], dir->name[i + 1], (size_t)(dir->count - i) * NAME_BYTES);
  memmove(&dir->file[i], &dir->file[i + 1], (size_t)(dir->count - i) * sizeof dir->file[0]);
}

static void apply_name_change(directory *dir, const name_change *c) {
  if (c->from[0]) remove_name(dir, c->from);
  if (!c->to[0]) return;
  remove_name(dir, c->to);
  CHECK(dir->count < NAMES_MAX);
  strcpy(dir->name[dir->count], c->to);
  dir->file[dir->count++] = c->file;
}

static void change_names(disk_model *d, const char *from, const char *to, int32_t file_index) {
  if (d->changes_count == d->changes_capacity) {
    d->changes_capacity = d->changes_capacity * 2 + 32;
    d->changes = realloc(d->changes, (size_t)d->changes_capacity * sizeof *d->changes);
    CHECK(d->changes);
  }
  name_change *c = &d->changes[d->changes_count++];
  CHECK(strlen(from) < NAME_BYTES && strlen(to) < NAME_BYTES);
  strcpy(c->from, from);
  strcpy(c->to, to);
  c->file = file_index;
  apply_name_change(&d->seen, c);
}

static const char *name_of(const char *path) {
  size_t n = strlen(DISK_DIRECTORY);
  return strncmp(path, DISK_DIRECTORY, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

/* ---------------------------------------------------------------------------------------------- the calls */

/* ---------------------------------------------------------------------------------------------- mappings */

/* What was stored into a mapping since it was looked at last is written. */
static void absorb_one(disk_model *d, const mapping *m) {
  file *f = &d->files[m->file];
  const uint8_t *seen = f->seen.data + m->position;
  size_t from = 0, to = m->size_bytes;
  while (from < to && m->memory[from] == seen[from]) from++;
  while (to > from && m->memory[to - 1] == seen[to - 1]) to--;
  if (from < to) file_write(f, m->memory + from, to - from, m->position + (int64_t)from);
}

static void absorb(disk_model *d) {
  for (int i = 0; i < MAPS_MAX && !d->dead; i++)
    if (d->maps[i].memory) absorb_one(d, &d->maps[i]);
}

/* Nobody has mapped what is at size_bytes of the file or behind it: to touch that would be a SIGBUS, or unseen by a write. */
static void check_unmapped(const disk_model *d, int32_t index, int64_t size_bytes) {
  for (int i = 0; i < MAPS_MAX; i++)
    CHECK(!d->maps[i].memory || d->maps[i].file != index ||
          d->maps[i].position + (int64_t)d->maps[i].size_bytes <= size_bytes);
}

static int32_t find_map(const disk_model *d, const void *address) {
  int32_t i = 0;
  while (i < MAPS_MAX && d->maps[i].memory != address) i++;
  return i;
}

/* Count a change. *dies: the power goes with it. */
static int begin_change(disk_model *d, bool *dies) {
  if (d->dead) return -EIO;
  absorb(d);
  d->made++;
  *dies = d->dead = d->cut_at > 0 && d->made == d->cut_at;
  return 0;
}

static int new_fd(disk_model *d, int32_t what) {
  for (int i = 0; i < FDS_MAX; i++)
    if (d->fds[i] == FD_FREE) {
      d->fds[i] = what;
      d->fd_errors[i] = d->errors;
      return FIRST_FD + i;
    }
  return -EMFILE;
}

static int32_t fd_target(const disk_model *d, int fd) {
  CHECK(fd >= FIRST_FD && fd < FIRST_FD + FDS_MAX && d->fds[fd - FIRST_FD] != FD_FREE);
  return d->fds[fd - FIRST_FD];
}

static int disk_sys_open(void *context, const char *path, int flags, mode_t mode) {
  disk_model *d = context;
  (void)mode;
  if (d->dead) return -EIO;
  if (flags & O_DIRECTORY) return strcmp(path, DISK_DIRECTORY) == 0 ? new_fd(d, FD_DIRECTORY) : -ENOENT;
  const char *name = name_of(path);
  if (!name) return -ENOENT;
  int32_t at = find_name(&d->seen, name);
  if (at < 0 && !(flags & O_CREAT)) return -ENOENT;
  bool truncates = at >= 0 && (flags & O_TRUNC) && d->files[d->seen.file[at]].seen.size_bytes > 0, dies = false;
  if (at < 0 || truncates) {
    int rc = begin_change(d, &dies);
    if (rc != 0) return rc;
  }
  int32_t index = at < 0 ? new_file(d) : d->seen.file[at];
  if (at < 0) change_names(d, "", name, index);
  if (truncates) file_resize(&d->files[index], 0);
  return dies ? -EIO : new_fd(d, index);
}

static int disk_sys_close(void *context, int fd) {
  disk_model *d = context;
  (void)fd_target(d, fd);
  d->fds[fd - FIRST_FD] = FD_FREE;
  return 0;
}

static int64_t disk_sys_pwritev(void *context, int fd, const struct iovec *pieces, int count, int64_t position) {
  disk_model *d = context;
  file *f = &d->files[fd_target(d, fd)];
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  check_unmapped(d, fd_target(d, fd), position);
  int64_t at = position;
  for (int i = 0; i < count; i++) {
    file_write(f, pieces[i].iov_base, pieces[i].iov_len, at);
    at += (int64_t)pieces[i].iov_len;
  }
  return dies ? -EIO : at - position;
}

static int64_t disk_sys_pwrite(void *context, int fd, const void *data, size_t size_bytes, int64_t position) {
  struct iovec one = {(void *)(uintptr_t)data, size_bytes};
  return disk_sys_pwritev(context, fd, &one, 1, position);
}

static int64_t disk_sys_pread(void *context, int fd, void *data, size_t size_bytes, int64_t position) {
  disk_model *d = context;
  const file *f = &d->files[fd_target(d, fd)];
  if (d->dead) return -EIO;
  absorb(d);
  if (position >= (int64_t)f->seen.size_bytes) return 0;
  size_t n = PLOG_MIN(size_bytes, f->seen.size_bytes - (size_t)position);
  if (n > 0) memcpy(data, f->seen.data + position, n);
  return (int64_t)n;
}

static int64_t disk_sys_preadv2(void *context, int fd, const struct iovec *pieces, int count, int64_t position, int flags) {
  (void)flags;
  int64_t sum = 0;
  for (int i = 0; i < count; i++) {
    int64_t n = disk_sys_pread(context, fd, pieces[i].iov_base, pieces[i].iov_len, position + sum);
    if (n < 0) return n;
    sum += n;
  }
  return sum;
}

static int64_t disk_sys_cachestat(void *context, int fd, int64_t position, int64_t size_bytes) {
  (void)context, (void)fd, (void)position, (void)size_bytes;
  return -ENOSYS;
}

static int disk_sys_ftruncate(void *context, int fd, int64_t size_bytes) {
  disk_model *d = context;
  file *f = &d->files[fd_target(d, fd)];
  if (!d->dead && size_bytes == (int64_t)f->seen.size_bytes) return 0;
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  check_unmapped(d, fd_target(d, fd), size_bytes);
  file_resize(f, size_bytes);
  return dies ? -EIO : 0;
}

static int disk_sys_fallocate(void *context, int fd, int mode, int64_t position, int64_t size_bytes) {
  disk_model *d = context;
  (void)fd_target(d, fd), (void)mode, (void)position, (void)size_bytes; /* blocks, not bytes: nothing that is seen */
  return d->dead ? -EIO : 0;
}

static int disk_sys_fsync(void *context, int fd) {
  disk_model *d = context;
  int32_t target = fd_target(d, fd);
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  if (dies) return -EIO; /* perhaps everything was written, perhaps nothing: as without it */
  if (target == FD_DIRECTORY) {
    d->durable = d->seen;
    d->changes_count = 0;
  } else {
    file_sync(&d->files[target]);
  }
  return 0;
}

static int disk_sys_syncfs(void *context, int fd) {
  disk_model *d = context;
  (void)fd_target(d, fd);
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  if (dies) return -EIO;
  int error = d->fd_errors[fd - FIRST_FD] == d->errors ? 0 : -EIO;
  d->fd_errors[fd - FIRST_FD] = d->errors;
  for (int32_t i = 0; i < FILES_MAX; i++)
    if (d->files[i].used) file_sync(&d->files[i]);
  d->durable = d->seen;
  d->changes_count = 0;
  return error;
}

static int disk_sys_syncfs_tells(void *context, int fd) {
  (void)context, (void)fd;
  return 0;
}

static int disk_sys_rename(void *context, const char *from, const char *to) {
  disk_model *d = context;
  const char *old = name_of(from), *fresh = name_of(to);
  if (d->dead) return -EIO;
  int32_t at = old ? find_name(&d->seen, old) : -1;
  if (at < 0 || !fresh) return -ENOENT;
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  change_names(d, old, fresh, d->seen.file[at]);
  return dies ? -EIO : 0;
}

static int disk_sys_unlink(void *context, const char *path) {
  disk_model *d = context;
  const char *name = name_of(path);
  if (d->dead) return -EIO;
  int32_t at = name ? find_name(&d->seen, name) : -1;
  if (at < 0) return -ENOENT;
  bool dies;
  int rc = begin_change(d, &dies);
  if (rc != 0) return rc;
  change_names(d, name, "", d->seen.file[at]);
  return dies ? -EIO : 0;
}

static void fill_stat(const file *f, struct stat *out) {
  memset(out, 0, sizeof *out);
  out->st_mode = S_IFREG | 0644;
  out->st_size = (off_t)f->seen.size_bytes;
  out->st_mtim.tv_sec = f->modified_ms / 1000;
  out->st_mtim.tv_nsec = f->modified_ms % 1000 * 1000000;
}

static int disk_sys_fstat(void *context, int fd, struct stat *out) {
  disk_model *d = context;
  if (d->dead) return -EIO;
  fill_stat(&d->files[fd_target(d, fd)], out);
  return 0;
}

static int disk_sys_stat(void *context, const char *path, struct stat *out) {
  disk_model *d = context;
  const char *name = name_of(path);
  if (d->dead) return -EIO;
  int32_t at = name ? find_name(&d->seen, name) : -1;
  if (at < 0) return -ENOENT;
  fill_stat(&d->files[d->seen.file[at]], out);
  return 0;
}

static int disk_sys_set_modified(void *context, int fd, int64_t wall_ms) {
  disk_model *d = context;
  if (d->dead) return -EIO;
  d->files[fd_target(d, fd)].modified_ms = wall_ms;
  return 0;
}

static int disk_sys_mmap(void *context, size_t size_bytes, int protection, int flags, int fd, int64_t position,
                         void **out) {
  disk_model *d = context;
  if (fd < 0) return d->kernel.mmap(d->kernel.context, size_bytes, protection, flags, fd, position, out);
  int32_t target = fd_target(d, fd), i = find_map(d, NULL);
  if (d->dead) return -EIO;
  const file *f = &d->files[target];
  CHECK(flags == MAP_SHARED && i < MAPS_MAX && position + (int64_t)size_bytes <= (int64_t)f->seen.size_bytes);
  uint8_t *memory = malloc(size_bytes);
  CHECK(memory);
  memcpy(memory, f->seen.data + position, size_bytes);
  d->maps[i] = (mapping){memory, size_bytes, position, target};
  *out = memory;
  return 0;
}

static int disk_sys_munmap(void *context, void *address, size_t size_bytes) {
  disk_model *d = context;
  int32_t i = find_map(d, address);
  if (i == MAPS_MAX) return d->kernel.munmap(d->kernel.context, address, size_bytes);
  CHECK_EQ(size_bytes, d->maps[i].size_bytes);
  if (!d->dead) absorb_one(d, &d->maps[i]);
  free(address);
  d->maps[i].memory = NULL;
  return 0;
}

static int disk_sys_madvise(void *context, void *address, size_t size_bytes, int advice) {
  disk_model *d = context;
  if (find_map(d, address) < MAPS_MAX) return d->dead ? -EFAULT : 0;
  return d->kernel.madvise(d->kernel.context, address, size_bytes, advice);
}

void disk_attach(disk_model *d, plog_sys *sys) {
  plog_sys_calls *calls = &sys->calls; /* the kernel's entries, which stay for the rest, do not look at the context */
  d->kernel = *calls;
  calls->context = d;
  calls->open = disk_sys_open;
  calls->close = disk_sys_close;
  calls->pwritev = disk_sys_pwritev;
  calls->pwrite = disk_sys_pwrite;
  calls->pread = disk_sys_pread;
  calls->preadv2 = disk_sys_preadv2;
  calls->cachestat = disk_sys_cachestat;
  calls->ftruncate = disk_sys_ftruncate;
  calls->fallocate = disk_sys_fallocate;
  calls->fsync = disk_sys_fsync;
  calls->fdatasync = disk_sys_fsync;
  calls->syncfs = disk_sys_syncfs;
  calls->syncfs_tells = disk_sys_syncfs_tells;
  calls->rename = disk_sys_rename;
  calls->unlink = disk_sys_unlink;
  calls->fstat = disk_sys_fstat;
  calls->stat = disk_sys_stat;
  calls->set_modified = disk_sys_set_modified;
  calls->mmap = disk_sys_mmap;
  calls->munmap = disk_sys_munmap;
  calls->madvise = disk_sys_madvise;
}

/* ---------------------------------------------------------------------------------------------- the power */

disk_model *disk_open(void) {
  disk_model *d = calloc(1, sizeof *d);
  CHECK(d);
  for (int i = 0; i < FDS_MAX; i++) d->fds[i] = FD_FREE;
  return d;
}

void disk_close(disk_model *d) {
  for (int i = 0; i < MAPS_MAX; i++) CHECK(!d->maps[i].memory);
  for (int32_t i = 0; i < FILES_MAX; i++) file_free(&d->files[i]);
  free(d->changes);
  free(d);
}

void disk_fail_writeback(disk_model *d) {
  absorb(d);
  for (int32_t i = 0; i < FILES_MAX; i++)
    if (d->files[i].used && d->files[i].changes_count > 0) {
      forget_changes(&d->files[i]);
      d->files[i].lost = true;
    }
  d->errors++;
}

void disk_cut_at(disk_model *d, int64_t nth) {
  d->cut_at = nth > 0 ? d->made + nth : 0;
}
bool disk_is_dead(const disk_model *d) {
  return d->dead;
}
int64_t disk_changes(const disk_model *d) {
  return d->made;
}
int disk_open_files(const disk_model *d) {
  int n = 0;
  for (int i = 0; i < FDS_MAX; i++) n += d->fds[i] != FD_FREE;
  return n;
}

/* How likely a sector of one file survives, in 256ths. */
static uint32_t draw_odds(disk_survivors survivors, uint64_t *seed) {
  static const uint32_t odds[] = {0, 256, 128, 240, 16};
  if (survivors == DISK_KEEP_DATA) return 256;
  return survivors == DISK_KEEP_SOME ? odds[test_random(seed) % PLOG_COUNT_OF(odds)] : 0;
}

/*
 * What a cut leaves of a file with changes. A change of size that came true forgets what lay behind it; data come true sector by
 * sector, those of sizes that did not too: they are where the file is that long.
 */
static void choose_file(file *f, disk_survivors survivors, uint64_t *seed) {
  uint32_t odds = draw_odds(survivors, seed);
  int32_t sizes = f->changes_count; /* so many changes are known to the file's size */
  if (survivors == DISK_KEEP_SOME) sizes = (int32_t)(test_random(seed) % (uint64_t)(f->changes_count + 1));
  int64_t size_bytes = sizes > 0 ? f->changes[sizes - 1].file_bytes : (int64_t)f->durable.size_bytes;
  for (int32_t i = 0; i < f->changes_count; i++) {
    const file_change *c = &f->changes[i];
    if (i < sizes) image_resize(&f->durable, (size_t)c->file_bytes);
    for (int64_t at = c->position, end = c->position + (int64_t)c->size_bytes; c->data && at < end;) {
      int64_t next = PLOG_MIN((at / SECTOR_BYTES + 1) * SECTOR_BYTES, end),
              stop = PLOG_MIN(next, (int64_t)f->durable.size_bytes);
      if (test_random(seed) % 256 < odds && at < stop)
        image_write(&f->durable, c->data + (at - c->position), (size_t)(stop - at), (size_t)at);
      at = next;
    }
  }
  image_resize(&f->durable, (size_t)size_bytes);
}

void disk_restart(disk_model *d, disk_survivors survivors, uint64_t seed) {
  if (survivors == DISK_KEEP_ALL) {
    d->durable = d->seen;
    for (int32_t i = 0; i < FILES_MAX; i++) file_sync(&d->files[i]);
  }
  int32_t names = survivors == DISK_KEEP_SIZES ? d->changes_count : 0;
  if (survivors == DISK_KEEP_SOME) names = (int32_t)(test_random(&seed) % (uint64_t)(d->changes_count + 1));
  if (survivors != DISK_KEEP_ALL)
    for (int32_t i = 0; i < names; i++) apply_name_change(&d->durable, &d->changes[i]);
  for (int32_t i = 0; i < FILES_MAX; i++) {
    file *f = &d->files[i];
    if (f->used && f->changes_count > 0 && survivors != DISK_KEEP_NONE) choose_file(f, survivors, &seed);
    forget_changes(f);
    image_copy(&f->seen, &f->durable);
    f->lost = false;
  }
  d->seen = d->durable;
  d->changes_count = 0;
  for (int i = 0; i < FDS_MAX; i++) d->fds[i] = FD_FREE;
  d->dead = false;
  d->cut_at = 0;
  collect(d);
}

/* ---------------------------------------------------------------------------------------------- looking */

void disk_list(disk_model *d, void (*fn)(void *context, const char *name), void *context) {
  static directory now;
  now = d->seen;
  for (int32_t i = 0; i < now.count; i++) fn(context, now.name[i]);
}

uint8_t *disk_file_bytes(disk_model *d, const char *name, size_t *size_bytes) {
  int32_t at = find_name(&d->seen, name);
  if (at < 0) return NULL;
  *size_bytes = d->files[d->seen.file[at]].seen.size_bytes;
  return d->files[d->seen.file[at]].seen.data;
}

const uint8_t *disk_file(disk_model *d, const char *name, size_t *size_bytes) {
  return disk_file_bytes(d, name, size_bytes);
}
