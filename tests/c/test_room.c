/*
 * Room kept on disks: what is admitted, how often the file system is asked, and when that begins and ends.
 */
#include "room.h"

#include <errno.h>
#include <string.h>

#include "sys.h"
#include "test.h"

typedef struct {
  int64_t free_bytes;
  int32_t asked;
  int error;
} disk;

static int disk_statvfs(void *context, const char *path, struct statvfs *out) {
  disk *d = context;
  (void)path;
  d->asked++;
  if (d->error) return -d->error;
  memset(out, 0, sizeof *out);
  out->f_frsize = 1;
  out->f_blocks = 1000;
  out->f_bavail = (fsblkcnt_t)d->free_bytes;
  return 0;
}

typedef struct {
  plog_sys *sys;
  disk disk;
  plog_rooms rooms;
} fixture;

/* A table that asks ours only about room. */
static void begin(fixture *f, int64_t free_bytes) {
  memset(f, 0, sizeof *f);
  f->sys = plog_sys_open();
  CHECK(f->sys);
  f->disk.free_bytes = free_bytes;
  f->sys->calls.context = &f->disk; /* the kernel's entries do not look at it */
  f->sys->calls.statvfs = disk_statvfs;
}

static void end(fixture *f) {
  plog__rooms_deinit(&f->rooms);
  plog_sys_close(f->sys);
}

static void rooms_are_found_by_their_directory(void) {
  fixture f;
  begin(&f, 1000);
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/data/a", 10, 0), 0);
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/data/ab", 20, 0), 0);
  CHECK_EQ(plog__rooms_find(&f.rooms, "/data/a/t-0")->reserve_bytes, 10);
  CHECK_EQ(plog__rooms_find(&f.rooms, "/data/ab/t-0")->reserve_bytes, 20);
  CHECK(!plog__rooms_find(&f.rooms, "/data/a"));
  CHECK(!plog__rooms_find(&f.rooms, "/data/a/t-0/x"));
  CHECK(!plog__rooms_find(&f.rooms, "t-0"));
  plog_room *before = plog__rooms_find(&f.rooms, "/data/a/t-0");
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/data/a", 30, 5), 0);
  CHECK(plog__rooms_find(&f.rooms, "/data/a/t-0") == before && before->reserve_bytes == 30);
  end(&f);
}

static void what_is_admitted_counts_until_the_disk_is_asked_again(void) {
  fixture f;
  begin(&f, 300);
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/d", 200, 0), 0);
  plog_room *room = plog__rooms_find(&f.rooms, "/d/t-0");
  CHECK(plog__room_admits(f.sys, room, 60, 1000));
  CHECK(plog__room_admits(f.sys, room, 40, 1999));
  CHECK_EQ(f.disk.asked, 1);
  CHECK(plog__room_admits(f.sys, room, 50, 2000)); /* a second later it is asked: nothing was written at all */
  CHECK_EQ(f.disk.asked, 2);
  CHECK(plog__room_admits(f.sys, room, 50, 2001));
  f.disk.free_bytes = 200;
  CHECK(!plog__room_admits(f.sys, room, 1, 2002)); /* what was seen is spent: it is asked before it is refused */
  CHECK_EQ(f.disk.asked, 3);
  CHECK(plog__rooms_take_news(&f.rooms) == room && room->lacking);
  CHECK(!plog__rooms_take_news(&f.rooms));
  end(&f);
}

static void it_ends_with_some_slack(void) {
  fixture f;
  begin(&f, 100);
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/d", 80, 10), 0); /* 10 % are 100: the larger one */
  plog_room *room = plog__rooms_find(&f.rooms, "/d/t-0");
  CHECK(!plog__room_admits(f.sys, room, 1, 1000));
  CHECK(plog__rooms_take_news(&f.rooms) == room);
  f.disk.free_bytes = 110;
  CHECK(!plog__room_admits(f.sys, room, 1, 1050)); /* not asked again so soon */
  CHECK_EQ(f.disk.asked, 1);
  CHECK(!plog__room_admits(f.sys, room, 1, 1100));
  CHECK_EQ(f.disk.asked, 2);
  f.disk.free_bytes = 113;
  CHECK(plog__room_admits(f.sys, room, 1, 1200));
  CHECK(plog__rooms_take_news(&f.rooms) == room && !room->lacking);
  end(&f);
}

static void nothing_is_kept_and_a_silent_disk_refuses_nobody(void) {
  fixture f;
  begin(&f, 0);
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/d", 0, 0), 0);
  plog_room *room = plog__rooms_find(&f.rooms, "/d/t-0");
  CHECK(plog__room_admits(f.sys, room, 1 << 30, 1000));
  CHECK_EQ(plog__rooms_keep(&f.rooms, "/d", 10, 0), 0);
  CHECK(!plog__room_admits(f.sys, room, 1, 1001)); /* what is kept has changed: it is asked at once */
  f.disk.error = EIO;
  CHECK(!plog__room_admits(f.sys, room, 1, 1050));
  CHECK(plog__room_admits(f.sys, room, 1, 1200));
  CHECK(plog__room_admits(f.sys, room, 1, 900)); /* the clock was set back */
  CHECK(!plog__rooms_take_news(&f.rooms)->lacking);
  end(&f);
}

int main(void) {
  RUN(rooms_are_found_by_their_directory);
  RUN(what_is_admitted_counts_until_the_disk_is_asked_again);
  RUN(it_ends_with_some_slack);
  RUN(nothing_is_kept_and_a_silent_disk_refuses_nobody);
  return 0;
}
