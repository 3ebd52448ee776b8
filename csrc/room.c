#include "room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_EVERY_MS 1000
#define CHECK_LACKING_EVERY_MS 100
#define SLACK_PART \
  8 /* of the reserve has to be free above it before records are admitted again: not a megabyte at a time */

void plog__rooms_deinit(plog_rooms *rooms) {
  while (rooms->first) {
    plog_room *room = rooms->first;
    rooms->first = room->next;
    free(room);
  }
}

static plog_room *find(const plog_rooms *rooms, const char *dir, size_t dir_bytes) {
  for (plog_room *room = rooms->first; room; room = room->next)
    if (strlen(room->dir) == dir_bytes && memcmp(room->dir, dir, dir_bytes) == 0) return room;
  return NULL;
}

int32_t plog__rooms_keep(plog_rooms *rooms, const char *dir, int64_t reserve_bytes, double reserve_percent) {
  size_t dir_bytes = strlen(dir);
  plog_room *room = find(rooms, dir, dir_bytes);
  if (!room) {
    room = calloc(1, sizeof *room + dir_bytes + 1);
    if (!room) return -ENOMEM;
    memcpy(room->dir, dir, dir_bytes);
    room->next = rooms->first;
    rooms->first = room;
  }
  room->reserve_bytes = reserve_bytes;
  room->reserve_percent = reserve_percent;
  room->checked_ms = INT64_MIN / 2;
  return 0;
}

plog_room *plog__rooms_find(const plog_rooms *rooms, const char *partition_dir) {
  const char *name = strrchr(partition_dir, '/');
  return name ? find(rooms, partition_dir, (size_t)(name - partition_dir)) : NULL;
}

/* Ask the file system. When it does not say, or nothing is kept, the write will show whether there is room. */
static void look(plog_sys *sys, plog_room *room, int64_t size_bytes, int64_t wall_ms) {
  struct statvfs found;
  int64_t left = INT64_MAX, reserve = 0;
  if (plog__sys_statvfs(sys, room->dir, &found) == 0) {
    double total_bytes = (double)found.f_blocks * (double)found.f_frsize;
    reserve = PLOG_MAX(room->reserve_bytes, (int64_t)(total_bytes * room->reserve_percent / 100.0));
    if (reserve > 0) left = (int64_t)(found.f_bavail * found.f_frsize) - reserve;
  }
  bool lacking = left < size_bytes + (room->lacking ? reserve / SLACK_PART : 0);
  room->news = room->news || lacking != room->lacking;
  room->lacking = lacking;
  room->left_bytes = left;
  room->checked_ms = wall_ms;
}

bool plog__room_admits(plog_sys *sys, plog_room *room, int64_t size_bytes, int64_t wall_ms) {
  int64_t since_ms = wall_ms - room->checked_ms;
  bool spent = !room->lacking && room->left_bytes < size_bytes;
  if (spent || since_ms < 0 || since_ms >= (room->lacking ? CHECK_LACKING_EVERY_MS : CHECK_EVERY_MS))
    look(sys, room, size_bytes, wall_ms);
  if (room->lacking) return false;
  if (room->left_bytes != INT64_MAX) room->left_bytes -= size_bytes;
  return true;
}

plog_room *plog__rooms_take_news(plog_rooms *rooms) {
  for (plog_room *room = rooms->first; room; room = room->next) {
    if (!room->news) continue;
    room->news = false;
    return room;
  }
  return NULL;
}
