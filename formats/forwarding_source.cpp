#include "formats/forwarding_source.h"

namespace pare {

int64_t ForwardingSource::stored_bytes() const {
  int64_t total = 0;
  for (const std::string& name : names_) total += stored_bytes(name);
  return total;
}

}  // namespace pare
