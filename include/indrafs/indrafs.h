// IndraFS as a library: a vault, its branches, and the files in them.
//
//   auto fs = indra::FileSystem::open("/path/to/vault", {.create = true});
//   (*fs)->fork(who, "main", "agent-1", {});                                // from main: one row
//   auto view = (*fs)->open_view({.branch = "agent-1"}, nullptr);
//   indra::write_file(**fs, **view, caller, "/notes", bytes);               // whole or not at all
//   (*fs)->merge(who, "main", {.source = "agent-1"});                       // into main: all or nothing
//
//   fs/filesystem.h  the vault: branches, snapshots, moments, merge; paths    fs/view.h     a branch or a
//   moment, by nodes fs/history.h     what differs between moments, versions of a file         fs/restore.h
//   going back, bringing back events/feed.h    what changes, as it does events/coord.h  queues, locks,
//   schedules
//
// The contracts are in those headers: shapes, threads, durability, errors. Rules: docs/branches.md.
// examples/workspaces.cpp is a program that uses it: ten forks, worked in at once and merged.
//
// In CMake: add_subdirectory(indrafs), target_link_libraries(you PRIVATE indra::indrafs). The process owns
// the vault while it is open: no daemon beside it. Not yet stable between versions.
#pragma once
#include "events/coord.h"
#include "events/feed.h"
#include "fs/filesystem.h"
#include "fs/history.h"
#include "fs/restore.h"
#include "fs/view.h"
