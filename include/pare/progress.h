// How long work reports itself, and how a caller stops it.
//
// The library calls Callbacks::on_progress from the thread that called it, never concurrently.
// Cancellation is polled between blocks of work; a cancelled call throws Error(kInterrupted)
// after its output is in a safe state.
//
//   pare::Callbacks callbacks;
//   callbacks.on_progress = [](const pare::Progress& at) {
//     std::printf("%3.0f %% %s\n", 100 * at.done, at.detail.c_str());
//   };
//   callbacks.cancelled = [] { return false; };
//   pare::quantize({}, callbacks);
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace pare {

/// A moment in a long call.
struct Progress {
  std::string phase;         ///< "check", "read", "calibrate", "compress", "write", "evaluate" …
  std::string detail;        ///< What is being worked on, for example "layer 3 of 32".
  double done = 0;           ///< Share of the whole call that is done, 0 … 1, weighted by cost.
  double seconds_left = -1;  ///< Estimate, negative while there is none.
};

struct Callbacks {
  std::function<void(const Progress&)> on_progress;  ///< May be empty.
  std::function<void(const std::string&)>
      on_warning;                   ///< May be empty; warnings are in the report too.
  std::function<bool()> cancelled;  ///< May be empty; true stops the call.
};

}  // namespace pare
