// Tiny models and a text for tests of speculative decoding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/speculative.h"
#include "tests/eval/eval_fixture.h"

namespace pare::testing {

/// A Llama like that in `folder`, with `extra` rows more in the embedding and the head, all zero.
void write_padded_copy(const std::string& folder, const std::string& padded, int64_t extra);

class SpeculativeTest : public EvalTest {
 protected:
  /// The text of EvalTest, ctx 32, 2 threads.
  SpeculativeOptions pair(const std::vector<std::string>& drafts,
                          const std::vector<std::string>& targets) const;
};

/// The code and message that evaluate_speculative() fails with; fails the test when it does not.
Failure failure_of(const SpeculativeOptions& options, const Callbacks& callbacks = {});

}  // namespace pare::testing
