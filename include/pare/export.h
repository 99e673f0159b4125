// Marks what libpare exports; everything else has hidden visibility. For C and C++.
//
//   PARE_EXPORT void function_of_the_interface(void);
#pragma once

#if defined(PARE_STATIC)
#define PARE_EXPORT
#else
#define PARE_EXPORT __attribute__((visibility("default")))
#endif
