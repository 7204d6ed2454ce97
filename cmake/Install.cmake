# cmake --install: the program, its man page and its completions.
include(GNUInstallDirs)
if(TARGET indrafs_program)
  install(TARGETS indrafs_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(page docs/indrafs.1)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${page})
    install(FILES ${PROJECT_SOURCE_DIR}/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  endif()
endforeach()
if(EXISTS ${PROJECT_SOURCE_DIR}/completion/indrafs.bash)
  install(FILES ${PROJECT_SOURCE_DIR}/completion/indrafs.bash RENAME indrafs
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endif()
