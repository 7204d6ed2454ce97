# indra_script_test(<name> <script> [LABELS label...] [TIMEOUT seconds] [SERIAL])
# A test that is a program of its own, mostly a shell script that mounts. It runs in an empty directory made for it,
# with INDRAFS (the program), INDRA_SOURCE (this repository) and INDRA_BIN (the built programs) in its environment.
# Every script test also gets the label `script`. Label `root`: needs root; `slow`: left out under the thread sanitizer;
# `plain`: left out under every sanitizer, since it loads our code into a program built without.
# Exit status: 0 passed, 77 could not run here (skipped), anything else failed.
function(indra_script_test name script)
  if(NOT INDRA_TESTS)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 2 T "SERIAL" "TIMEOUT" "LABELS")
  if(NOT T_TIMEOUT OR T_TIMEOUT LESS 300)  # only against hanging: a busy machine takes its time
    set(T_TIMEOUT 300)
  endif()
  if(INDRA_SANITIZE)
    math(EXPR T_TIMEOUT "4 * ${T_TIMEOUT}")
  endif()
  get_filename_component(script ${script} ABSOLUTE BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/run-script ${script})
  set_tests_properties(${name} PROPERTIES
    LABELS "script;${T_LABELS}" TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "INDRAFS=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/indrafs;INDRA_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};INDRA_SOURCE=${PROJECT_SOURCE_DIR};INDRA_SANITIZE=${INDRA_SANITIZE}")
  if(T_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()
