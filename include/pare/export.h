// Marks what libpare exports; everything else has hidden visibility.
#pragma once

#if defined(PARE_STATIC)
#define PARE_EXPORT
#else
#define PARE_EXPORT __attribute__((visibility("default")))
#endif
