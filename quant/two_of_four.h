// The one rule by which 2:4 pruning chooses: of four weights the two with the largest score stay.
#pragma once

#include <cstdint>

namespace pare {

/// keep[0 … 3]: exactly two ones. Of equal scores the lower index is kept; NaN counts as lowest.
inline void keep_two_of_four(const float* score, uint8_t* keep) {
  for (int i = 0; i < 4; ++i) {
    int better = 0;
    for (int j = 0; j < 4; ++j) {
      if (j == i) continue;
      const bool i_is_number = score[i] == score[i];
      const bool j_is_number = score[j] == score[j];
      if (i_is_number != j_is_number) {
        better += j_is_number ? 1 : 0;
      } else if (i_is_number && score[j] != score[i]) {
        better += score[j] > score[i] ? 1 : 0;
      } else {
        better += j < i ? 1 : 0;
      }
    }
    keep[i] = better < 2 ? 1 : 0;
  }
}

}  // namespace pare
