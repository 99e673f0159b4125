# pare_module(NAME SOURCES a.cpp b.cpp [COLD b.cpp …] [DEPENDS core …] [LIBRARIES target …])
#
# One folder of the house: an object library (for libpare) and a static library of the same objects
# (pare_NAME, for tests and benchmarks that need what libpare hides). COLD sources run once a job and
# are full of JSON templates: optimising them hard would take a third of the build's time for nothing.
function(pare_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;COLD;DEPENDS;LIBRARIES" ${ARGN})
  list(TRANSFORM ARG_DEPENDS PREPEND pare_)
  add_library(pare_${name}_objects OBJECT ${ARG_SOURCES})
  set_source_files_properties(${ARG_COLD} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O1>")
  target_include_directories(pare_${name}_objects PUBLIC ${PROJECT_SOURCE_DIR}
                                                         ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(pare_${name}_objects PRIVATE pare_warnings PUBLIC ${ARG_LIBRARIES})
  add_library(pare_${name} STATIC $<TARGET_OBJECTS:pare_${name}_objects>)
  set_target_properties(pare_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(pare_${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(pare_${name} PUBLIC ${ARG_DEPENDS} ${ARG_LIBRARIES})
  set_property(GLOBAL APPEND PROPERTY PARE_MODULES ${name})
  set_property(GLOBAL APPEND PROPERTY PARE_MODULE_LIBRARIES ${ARG_LIBRARIES})
endfunction()

add_library(pare_warnings INTERFACE)
target_compile_options(pare_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align -Woverloaded-virtual
  -Wdouble-promotion -Wimplicit-fallthrough
  $<$<BOOL:${PARE_WERROR}>:-Werror>
  # g++ 12 at -O3 sees overlapping copies in every "literal" + string (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # A fused multiply-add rounds once where the written formula rounds twice: results would depend
  # on the compiler.
  -ffp-contract=off -fno-math-errno)
