// Jobs on one architecture of each kind; jobs_every_test.cpp has all of them.
#include "tests/pipeline/model_jobs.h"

namespace pare::testing {
namespace {

class FewJobs : public ModelJobs {};
INSTANTIATE_TEST_SUITE_P(Models, FewJobs,
                         ::testing::Values(model_config("LlamaBiased"), model_config("DeepSeek"),
                                           model_config("GptOss"), model_config("FalconOneKeyHead"),
                                           model_config("GptTwoByLayer"), model_config("GemmaTwo"),
                                           model_config("Jamba"), model_config("MBart")),
                         name_of);

TEST_P(FewJobs, RunInEveryFormat) { check_all(); }

}  // namespace
}  // namespace pare::testing
