# pare_program_pages(PROGRAM [COMMANDS word …] [WORDS word …] [LISTS options flag …]
#                    [SEE_ALSO page …])
#
# Manual pages and completions of a program, made while it is built of what its --help prints, and
# installed. COMMANDS are first words that have a --help of their own; WORDS share the program's.
# LISTS are pairs of options, with commas between them, and the flag that lists their values.
include(GNUInstallDirs)
add_custom_target(pages ALL)

function(pare_program_pages program)
  cmake_parse_arguments(ARG "" "" "COMMANDS;WORDS;LISTS;SEE_ALSO" ${ARGN})
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/pages)
  file(MAKE_DIRECTORY ${folder})

  # pare_printed(FILE argument …): what the program prints.
  macro(pare_printed file)
    add_custom_command(OUTPUT ${folder}/${file} COMMAND ${program} ${ARGN} > ${folder}/${file}
                       DEPENDS ${program} VERBATIM)
    list(APPEND printed ${folder}/${file})
  endmacro()
  # pare_made(FILE FOLDER argument …): what is made of that.
  macro(pare_made file destination)
    add_custom_command(OUTPUT ${folder}/${file} COMMAND pare_pages ${ARGN} > ${folder}/${file}
                       DEPENDS pare_pages ${printed} VERBATIM)
    list(APPEND made ${folder}/${file})
    install(FILES ${folder}/${file} DESTINATION ${destination} COMPONENT runtime)
  endmacro()

  pare_printed(${program}.help --help)
  set(parts)
  set(names)
  foreach(command ${ARG_COMMANDS})
    pare_printed(${program}-${command}.help ${command} --help)
    list(APPEND parts ${command}=${folder}/${program}-${command}.help)
    list(APPEND names ${program}-${command})
  endforeach()
  foreach(word ${ARG_WORDS})
    list(APPEND parts ${word}=${folder}/${program}.help)
  endforeach()
  while(ARG_LISTS)
    list(POP_FRONT ARG_LISTS options flag)
    pare_printed(${program}${flag}.list ${flag})
    list(APPEND parts ${options}:${folder}/${program}${flag}.list)
  endwhile()

  set(man ${CMAKE_INSTALL_MANDIR}/man1)
  pare_made(${program}.1 ${man} man ${program} ${PROJECT_VERSION} ${folder}/${program}.help
            ${names} ${ARG_SEE_ALSO})
  foreach(name ${names})
    pare_made(${name}.1 ${man} man ${name} ${PROJECT_VERSION} ${folder}/${name}.help ${program})
  endforeach()
  set(data ${CMAKE_INSTALL_DATADIR})
  pare_made(${program} ${data}/bash-completion/completions bash ${program}
            ${folder}/${program}.help ${parts})
  pare_made(_${program} ${data}/zsh/site-functions zsh ${program} ${folder}/${program}.help
            ${parts})
  # Where Debian's zsh looks under /usr.
  install(FILES ${folder}/_${program} DESTINATION ${data}/zsh/vendor-completions
          COMPONENT runtime)
  pare_made(${program}.fish ${data}/fish/vendor_completions.d fish ${program}
            ${folder}/${program}.help ${parts})
  add_custom_target(pages_of_${program} DEPENDS ${made})
  add_dependencies(pages pages_of_${program})
endfunction()
