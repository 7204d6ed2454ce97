# Every library comes from the distribution; nothing is vendored.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(tl-expected REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(SQLITE3 REQUIRED IMPORTED_TARGET sqlite3>=3.40)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
pkg_check_modules(LIBGIT2 REQUIRED IMPORTED_TARGET libgit2>=1.5)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3>=3.14)
if(INDRA_TESTS)
  find_package(GTest REQUIRED)
  find_package(rapidcheck REQUIRED)
endif()
if(INDRA_BENCH)
  find_package(benchmark QUIET)  # without it only the end-to-end programs are built
endif()

# The official BLAKE3 C sources. Subtree chaining values need the internal entry points
# (blake3_impl.h), which libblake3 does not export, so the sources are compiled in.
file(GLOB INDRA_BLAKE3_CANDIDATES /usr/share/cargo/registry/blake3-*/c)
find_path(BLAKE3_SOURCE_DIR blake3_impl.h PATHS ${INDRA_BLAKE3_CANDIDATES} NO_DEFAULT_PATH
          DOC "Folder of the official BLAKE3 C sources (Debian: librust-blake3-dev)")
if(NOT BLAKE3_SOURCE_DIR)
  message(FATAL_ERROR "The BLAKE3 C sources were not found: apt-get install librust-blake3-dev, "
                      "or set -DBLAKE3_SOURCE_DIR=")
endif()
set(INDRA_BLAKE3_FILES blake3.c blake3_dispatch.c blake3_portable.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND INDRA_BLAKE3_FILES blake3_sse2_x86-64_unix.S blake3_sse41_x86-64_unix.S
       blake3_avx2_x86-64_unix.S blake3_avx512_x86-64_unix.S)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND INDRA_BLAKE3_FILES blake3_neon.c)
endif()
list(TRANSFORM INDRA_BLAKE3_FILES PREPEND ${BLAKE3_SOURCE_DIR}/)
add_library(blake3_c STATIC ${INDRA_BLAKE3_FILES})
target_include_directories(blake3_c SYSTEM PUBLIC ${BLAKE3_SOURCE_DIR})
target_compile_options(blake3_c PRIVATE -O2 -w)
