// How long the phases of a job took, by name.
#pragma once

#include <chrono>
#include <map>
#include <string>

namespace pare {

class PhaseTimes {
 public:
  /// Runs body() and adds its time to the phase, thrown or not.
  template <typename Body>
  auto timed(const char* phase, const Body& body) {
    struct AddTime {
      double& seconds;
      std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
      ~AddTime() {
        seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      }
    } const add{seconds_[phase]};
    return body();
  }

  const std::map<std::string, double>& seconds() const noexcept { return seconds_; }

 private:
  std::map<std::string, double> seconds_;
};

}  // namespace pare
