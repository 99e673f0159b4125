// Every architecture in every format: the job runs, its checkpoint is complete and finite, and
// eight bits lose less than half of the weights does.
#include "tests/pipeline/model_jobs.h"

namespace pare::testing {
namespace {

class EveryJob : public ModelJobs {};
INSTANTIATE_TEST_SUITE_P(Models, EveryJob, ::testing::ValuesIn(model_configs()), name_of);

TEST_P(EveryJob, RunsInEveryFormat) { check_all(); }

}  // namespace
}  // namespace pare::testing
