# INDRA_SANITIZE applies to everything, BLAKE3's C sources included.
if(INDRA_SANITIZE)
  add_compile_options(-fsanitize=${INDRA_SANITIZE} -fno-omit-frame-pointer)
  if(INDRA_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  add_link_options(-fsanitize=${INDRA_SANITIZE})
endif()
# Coverage of the code below the fuzz targets, so that the fuzzer can steer.
if(INDRA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
