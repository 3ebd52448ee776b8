/*
 * room.h: room kept on the disks of the data directories.
 *
 * What stays true: records of clients are admitted only while the file system has more than the reserve left, as of at most a
 * second ago and counting every byte admitted since; what is refused leaves no trace. The broker's own records (committed
 * positions, transactions) are not asked about: consumers go on when producers have to wait. When there is room again,
 * because retention or somebody else has made some, it is found out by the next records that are offered.
 *
 * The owner's thread alone; wall_ms is brought along, and a clock that jumps costs one look at the disk.
 */
#ifndef PLOG_ROOM_H
#define PLOG_ROOM_H

#include "base.h"
#include "sys.h"

typedef struct plog_room plog_room;
struct plog_room {
  plog_room *next;
  int64_t reserve_bytes;
  double reserve_percent;
  int64_t checked_ms;
  int64_t left_bytes; /* above the reserve when it was checked, less what was admitted since */
  bool lacking;       /* refusing */
  bool news;          /* lacking has changed since plog__rooms_take_news */
  char dir[];
};

/* One for each data directory that is watched. */
typedef struct {
  plog_sys *sys;
  plog_room *first;
} plog_rooms;

void plog__rooms_deinit(plog_rooms *rooms);
/* Keep room on the disk of dir: the larger of the two. Replaces what was kept before; both 0: nothing is. -ENOMEM */
int32_t plog__rooms_keep(plog_rooms *rooms, const char *dir, int64_t reserve_bytes, double reserve_percent);
/* The room of the data directory that a partition's directory lies in; NULL: not watched. */
plog_room *plog__rooms_find(const plog_rooms *rooms, const char *partition_dir);
/* May a client's records be written? */
bool plog__room_admits(plog_sys *sys, plog_room *room, int64_t size_bytes, int64_t wall_ms);
/* A room whose state has changed since it was told last; NULL: none. */
plog_room *plog__rooms_take_news(plog_rooms *rooms);

#endif
