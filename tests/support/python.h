// A Python for readers of files that share no code with pare.
#pragma once

#include <cstdlib>
#include <string>

namespace pare::testing {

/// The first Python that has numpy: `configured`, where it is not empty, or one of the system's.
/// Empty when there is none.
inline std::string find_python(const std::string& configured) {
  for (const std::string& python :
       {configured, std::string("/usr/bin/python3"), std::string("python3")}) {
    const std::string probe = "'" + python + "' -c 'import numpy' 2>/dev/null";
    if (!python.empty() && std::system(probe.c_str()) == 0) return python;
  }
  return "";
}

}  // namespace pare::testing
