// The numbers of this version, for the preprocessor of C and C++. CMakeLists.txt reads them here.
//
//   #if PARE_VERSION >= 100  // 0.1.0
//   #endif
//
// docs/library.md says what a change of each of them means.
#ifndef PARE_VERSION_NUMBER_H
#define PARE_VERSION_NUMBER_H

#define PARE_VERSION_MAJOR 0
#define PARE_VERSION_MINOR 1
#define PARE_VERSION_PATCH 0

/* 10000 × major + 100 × minor + patch */
#define PARE_VERSION (PARE_VERSION_MAJOR * 10000 + PARE_VERSION_MINOR * 100 + PARE_VERSION_PATCH)
#define PARE_VERSION_STRING                \
  PARE_VERSION_TEXT_OF(PARE_VERSION_MAJOR) \
  "." PARE_VERSION_TEXT_OF(PARE_VERSION_MINOR) "." PARE_VERSION_TEXT_OF(PARE_VERSION_PATCH)
#define PARE_VERSION_TEXT_OF(number) PARE_VERSION_TEXT_OF_VALUE(number)
#define PARE_VERSION_TEXT_OF_VALUE(value) #value

/* Of the checkpoints that this version writes; it reads this one and all before. */
#define PARE_CHECKPOINT_FORMAT_VERSION 2

#endif
