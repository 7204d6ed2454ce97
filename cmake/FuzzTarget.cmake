# indra_fuzz_target(<name> LIBS dep...): fuzz/<name>_fuzz.cpp with corpus fuzz/corpus/<name>/ becomes bin/<name>_fuzz.
function(indra_fuzz_target name)
  cmake_parse_arguments(PARSE_ARGV 1 F "" "" "LIBS")
  add_executable(${name}_fuzz ${PROJECT_SOURCE_DIR}/fuzz/${name}_fuzz.cpp)
  target_link_libraries(${name}_fuzz PRIVATE ${F_LIBS})
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()
