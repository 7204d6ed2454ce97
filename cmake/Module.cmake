# indra_module(<name> SOURCES ... [PUBLIC dep...] [PRIVATE dep...] [TESTS ...])
# One static library indra_<name> and, when it has tests, one executable indra_<name>_test.
function(indra_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion
    -Wshadow -Werror=unused-result
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${CMAKE_UNITY_BUILD}>>:-Wno-subobject-linkage>  # no file is the main one
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety> $<$<BOOL:${INDRA_WERROR}>:-Werror>)
endfunction()

function(indra_module name)
  cmake_parse_arguments(PARSE_ARGV 1 M "" "" "SOURCES;PUBLIC;PRIVATE;TESTS;TEST_LIBS")
  add_library(indra_${name} STATIC ${M_SOURCES})
  add_library(indra::${name} ALIAS indra_${name})
  target_include_directories(indra_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(indra_${name} PUBLIC ${M_PUBLIC} PRIVATE ${M_PRIVATE})
  indra_warnings(indra_${name})
  if(M_TESTS AND INDRA_TESTS)
    add_executable(indra_${name}_test ${M_TESTS})
    target_link_libraries(indra_${name}_test PRIVATE indra::${name} ${M_PRIVATE} ${M_TEST_LIBS}
                          GTest::gmock_main rapidcheck rapidcheck_gtest)
    gtest_discover_tests(indra_${name}_test TEST_PREFIX "${name}/" DISCOVERY_TIMEOUT 60
                         PROPERTIES LABELS unit TIMEOUT 300)
  endif()
endfunction()
