// IndraFS as a library: open a vault, look at it through Views, put files into it.
//
//   auto fs = indra::FileSystem::open("/path/to/vault", {.create = true});
//   auto view = (*fs)->open_view({.branch = "main"}, nullptr);
//
// In CMake: add_subdirectory(indrafs), target_link_libraries(you PRIVATE indra::indrafs).
// The contracts are in the headers included here. Not yet stable between versions.
#pragma once
#include "events/coord.h"
#include "events/feed.h"
#include "fs/filesystem.h"
#include "fs/view.h"
