# What a step of pare_quantize() made for engines: a line for each model.
#
#   cmake -DRECORD=file -DSTAMP=file "-DMODELS=a|b" -DSTEP=forget -P PareExportRecord.cmake     before
#   cmake -DRECORD=file -DSTAMP=file "-DMODELS=a|b" -DSTEP=remember -P PareExportRecord.cmake   after
#
# "forget" removes what the last finished step made and this one does not. Nothing else is ever
# removed: the record is written only once a step has made everything in it.
cmake_minimum_required(VERSION 3.25)

string(REPLACE "|" ";" MODELS "${MODELS}")
if(STEP STREQUAL "remember")
  string(REPLACE ";" "\n" lines "${MODELS}")
  file(WRITE ${RECORD} "${lines}\n")
  file(TOUCH ${STAMP})
elseif(EXISTS ${RECORD})
  file(STRINGS ${RECORD} before)
  foreach(path ${before})
    if(NOT path IN_LIST MODELS)
      file(REMOVE_RECURSE ${path})
    endif()
  endforeach()
endif()
