# Quantizing as a build step, and a build that fails when the result is not good enough.
#
#   find_package(pare 0.1 REQUIRED)
#   pare_quantize(TARGET llama_int4 MODEL models/llama QFORMAT int4_awq CALIB c4_sample.jsonl
#                 OUTPUT llama-int4.h5)
#   pare_accuracy_gate(TARGET llama_int4_is_good BASELINE models/llama CANDIDATE llama_int4
#                      TEXT wiki.test.raw MAX_LOSS 1%)
#
# docs/library.md describes both. A step runs again when a file that it reads, its options or the
# programs changed, and not otherwise. Inputs are relative to the source folder, outputs to the
# binary folder; what one step made is found by its target or its path.

set(_PARE_EXPORT_RECORD ${CMAKE_CURRENT_LIST_DIR}/PareExportRecord.cmake)

# pare_quantize(TARGET name MODEL folder OUTPUT file-or-folder
#               [QFORMAT name] [CALIB file] [RECIPE file] [EXPORT form …] [ARGS option …]
#               [DEPENDS file-or-target …] [EXCLUDE_FROM_ALL])
function(pare_quantize)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "EXCLUDE_FROM_ALL"
                        "TARGET;MODEL;OUTPUT;QFORMAT;CALIB;RECIPE" "EXPORT;ARGS;DEPENDS")
  _pare_check(pare_quantize "TARGET;MODEL;OUTPUT")
  string(REPLACE "," ";" ARG_EXPORT "${ARG_EXPORT}")
  set(forms ${ARG_EXPORT})
  list(REMOVE_DUPLICATES forms)
  if(NOT "${forms}" STREQUAL "${ARG_EXPORT}")
    message(FATAL_ERROR "pare_quantize(${ARG_TARGET}): EXPORT names a form twice")
  endif()
  # What the step makes has to be known here.
  foreach(option --export --tp_size --tp-size --pp_size --pp-size)
    if("${option}" IN_LIST ARG_ARGS AND (NOT ARG_EXPORT OR option STREQUAL "--export"))
      message(FATAL_ERROR "pare_quantize(${ARG_TARGET}): ARGS has ${option}; name the form with "
                          "EXPORT")
    endif()
  endforeach()
  if("${ARG_QFORMAT}" MATCHES "," OR "${ARG_OUTPUT}" MATCHES "{qformat}")
    message(FATAL_ERROR "pare_quantize(${ARG_TARGET}): one format a step; call it once for each")
  endif()
  cmake_path(ABSOLUTE_PATH ARG_OUTPUT BASE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} NORMALIZE
             OUTPUT_VARIABLE output)
  cmake_path(GET output PARENT_PATH folder)
  cmake_path(GET output FILENAME name)
  _pare_outputs(${output} "${ARG_EXPORT}" models made)
  # With folders a stamp stands for all of them. What they were is kept apart, as generators remove
  # stamps: those that the step does not make any more are removed.
  set(stamp)
  set(byproducts)
  set(forget)
  set(remember)
  if(ARG_EXPORT)
    set(stamp ${CMAKE_CURRENT_BINARY_DIR}/${ARG_TARGET}.made)
    set(byproducts BYPRODUCTS ${made})
    list(JOIN models "|" listed)
    set(record ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${ARG_TARGET}.pare-models)
    set(script ${CMAKE_COMMAND} -DRECORD=${record} -DSTAMP=${stamp} -DMODELS=${listed})
    set(forget COMMAND ${script} -DSTEP=forget -P ${_PARE_EXPORT_RECORD})
    set(remember COMMAND ${script} -DSTEP=remember -P ${_PARE_EXPORT_RECORD})
    set(made ${stamp})
  endif()

  set(depends)
  set(options)
  _pare_input(${ARG_MODEL} model)
  foreach(file CALIB RECIPE)
    if(ARG_${file})
      _pare_input(${ARG_${file}} path)
      string(TOLOWER --${file} option)
      list(APPEND options ${option} ${path})
    endif()
  endforeach()
  if(ARG_QFORMAT)
    list(APPEND options --qformat ${ARG_QFORMAT})
  endif()
  if(ARG_EXPORT)
    list(JOIN ARG_EXPORT "," forms)
    list(APPEND options --export ${forms})
  endif()
  list(APPEND options ${ARG_ARGS})
  _pare_options_file(${ARG_TARGET} ${model} ${output} ${options})

  add_custom_command(
    OUTPUT ${made}
    ${byproducts}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    ${forget}
    # Earlier output is replaced once the new one is complete.
    COMMAND pare::quantize ${model} -o ${output} --force ${options}
    ${remember}
    DEPENDS ${depends} ${ARG_DEPENDS} $<TARGET_FILE:pare::quantize> $<TARGET_FILE:pare::pare>
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    COMMENT "Quantizing ${ARG_MODEL} to ${name}"
    USES_TERMINAL VERBATIM)
  _pare_target(${ARG_TARGET} ${made})
  list(GET models 0 first)
  set_target_properties(${ARG_TARGET} PROPERTIES PARE_OUTPUT ${first} PARE_MADE "${made}")
  foreach(path ${models})
    set_property(GLOBAL PROPERTY "PARE_MAKER ${path}" ${ARG_TARGET})
  endforeach()
endfunction()

# pare_accuracy_gate(TARGET name BASELINE model CANDIDATE checkpoint-or-target …
#                    [TEXT file] [MAX_LOSS 1%] [MAX_PPL_RATIO 1.01] [MAX_KL 0.02]
#                    [JSON file] [REPORT file.html] [MARKDOWN file.md]
#                    [ARGS option …] [DEPENDS file-or-target …] [EXCLUDE_FROM_ALL])
function(pare_accuracy_gate)
  cmake_parse_arguments(
    PARSE_ARGV 0 ARG "EXCLUDE_FROM_ALL"
    "TARGET;BASELINE;TEXT;MAX_LOSS;MAX_PPL_RATIO;MAX_KL;JSON;REPORT;MARKDOWN"
    "CANDIDATE;ARGS;DEPENDS")
  _pare_check(pare_accuracy_gate "TARGET;BASELINE;CANDIDATE")
  if(NOT DEFINED ARG_MAX_LOSS AND NOT DEFINED ARG_MAX_PPL_RATIO AND NOT DEFINED ARG_MAX_KL)
    message(FATAL_ERROR "pare_accuracy_gate(${ARG_TARGET}): no gate given; add MAX_LOSS, "
                        "MAX_PPL_RATIO or MAX_KL")
  endif()
  set(depends)
  set(makers)
  set(models)
  _pare_input(${ARG_BASELINE} baseline)
  foreach(candidate ${ARG_CANDIDATE})
    _pare_input(${candidate} path)
    list(APPEND models ${path})
  endforeach()
  set(options)
  if(ARG_TEXT)
    _pare_input(${ARG_TEXT} path)
    list(APPEND options --text ${path})
  endif()
  foreach(gate MAX_LOSS MAX_PPL_RATIO MAX_KL)
    if(DEFINED ARG_${gate})
      string(TOLOWER --${gate} option)
      string(REPLACE _ - option ${option})
      list(APPEND options ${option} ${ARG_${gate}})
    endif()
  endforeach()
  set(reports)
  foreach(report JSON REPORT MARKDOWN)
    if(ARG_${report})
      cmake_path(ABSOLUTE_PATH ARG_${report} BASE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} NORMALIZE
                 OUTPUT_VARIABLE path)
      string(TOLOWER --${report} option)
      list(APPEND options ${option} ${path})
      list(APPEND reports ${path})
    endif()
  endforeach()
  # Another candidate does not run the baseline again.
  if(NOT "--cache" IN_LIST ARG_ARGS)
    list(APPEND options --cache ${CMAKE_BINARY_DIR}/pare-cache)
  endif()
  list(APPEND options ${ARG_ARGS})
  _pare_options_file(${ARG_TARGET} ${baseline} ${models} ${options})

  set(passed ${CMAKE_CURRENT_BINARY_DIR}/${ARG_TARGET}.passed)
  list(JOIN ARG_CANDIDATE ", " shown)
  add_custom_command(
    OUTPUT ${passed}
    BYPRODUCTS ${reports}
    # Exit status 8, when a gate fails, ends the build; the line on stderr says which and by how
    # much, and the reports are there.
    COMMAND pare::accuracy-eval --baseline ${baseline} ${models} --force ${options}
    COMMAND ${CMAKE_COMMAND} -E touch ${passed}
    DEPENDS ${depends} ${ARG_DEPENDS} $<TARGET_FILE:pare::accuracy-eval> $<TARGET_FILE:pare::pare>
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    COMMENT "Measuring ${shown} against ${ARG_BASELINE}"
    USES_TERMINAL VERBATIM)
  _pare_target(${ARG_TARGET} ${passed})
  if(makers)
    add_dependencies(${ARG_TARGET} ${makers})
  endif()
endfunction()

# What both need, with the caller's arguments ARG_….
macro(_pare_check function required)
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${function}: unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  foreach(argument ${required})
    if(NOT ARG_${argument})
      message(FATAL_ERROR "${function}(${ARG_TARGET}): ${argument} is missing")
    endif()
  endforeach()
  if(NOT TARGET pare::quantize OR NOT TARGET pare::accuracy-eval)
    message(FATAL_ERROR "${function}: this pare was built without its programs "
                        "(PARE_BUILD_TOOLS)")
  endif()
endmacro()

macro(_pare_target name file)
  if(ARG_EXCLUDE_FROM_ALL)
    add_custom_target(${name} DEPENDS ${file})
  else()
    add_custom_target(${name} ALL DEPENDS ${file})
  endif()
endmacro()

# What `quantize -o OUTPUT --export FORM,…` makes: `models`, and in `made` the file of each that is
# there once it is finished.
function(_pare_outputs output forms models made)
  cmake_path(GET output FILENAME name)
  set(folders)
  foreach(form ${forms})
    if(name MATCHES "\\.h5$")
      string(REGEX REPLACE "\\.h5$" "-${form}" folder ${output})
    else()
      set(folder ${output}/${form})
    endif()
    list(APPEND folders ${folder})
  endforeach()
  list(LENGTH folders count)
  set(checkpoint)
  set(files)
  if(name MATCHES "\\.h5$")
    set(checkpoint ${output})
    set(files ${output})
  elseif(count EQUAL 0)
    set(checkpoint ${output})
    set(files ${output}/${name}.h5.index.json)
  elseif(count EQUAL 1)
    set(folders ${output})
  endif()
  list(TRANSFORM folders APPEND /pare_export.json OUTPUT_VARIABLE manifests)
  set(${models} ${checkpoint} ${folders} PARENT_SCOPE)
  set(${made} ${files} ${manifests} PARENT_SCOPE)
endfunction()

# Sets `result` to the path of a model or file, and adds the files that it consists of to the
# caller's `depends`, the target that makes it to `makers`.
function(_pare_input input result)
  set(maker)
  if(TARGET ${input})
    set(maker ${input})
  else()
    cmake_path(ABSOLUTE_PATH input BASE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} NORMALIZE
               OUTPUT_VARIABLE path)
    get_property(maker GLOBAL PROPERTY "PARE_MAKER ${path}")
  endif()
  if(maker)
    if(TARGET ${input})
      get_target_property(path ${maker} PARE_OUTPUT)
    endif()
    get_target_property(files ${maker} PARE_MADE)
    if(NOT path)
      message(FATAL_ERROR "${input}: is a target, but not one of pare_quantize()")
    endif()
    set(makers ${makers} ${maker} PARENT_SCOPE)
  else()
    cmake_path(ABSOLUTE_PATH input BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE
               OUTPUT_VARIABLE path)
    set(files ${path})
    if(IS_DIRECTORY ${path})
      file(GLOB files CONFIGURE_DEPENDS LIST_DIRECTORIES false ${path}/*)
    elseif(NOT EXISTS ${path} AND NOT ARG_DEPENDS)
      message(FATAL_ERROR "${path}: is not there; where another step of the build makes it, name "
                          "that with DEPENDS")
    endif()
  endif()
  set(depends ${depends} ${files} PARENT_SCOPE)
  set(${result} ${path} PARENT_SCOPE)
endfunction()

# A file that changes when the options do, for generators that do not look at commands.
macro(_pare_options_file name)
  set(options_file ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${name}.pare-options)
  string(JOIN "\n" options_text ${ARGN})
  file(GENERATE OUTPUT ${options_file} CONTENT "${options_text}\n")
  list(APPEND depends ${options_file})
endmacro()
