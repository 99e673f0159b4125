#include "tests/eval_report/sample_report.h"

#include <cmath>
#include <random>
#include <utility>

namespace pare {
namespace {

Measured measured(double value, double error) {
  return {value, error, Interval{value - 1.96 * error, value + 1.96 * error}};
}

Divergence sample_divergence(double kl) {
  Divergence result;
  result.kl_mean = measured(kl, 0.02 * kl);
  result.kl_median = measured(0.7 * kl, 0.02 * kl);
  result.kl_p90 = measured(2 * kl, 0.05 * kl);
  result.kl_p95 = measured(3 * kl, 0.1 * kl);
  result.kl_p99 = measured(6 * kl, 0.3 * kl);
  result.kl_p999 = measured(12 * kl, kl);
  result.kl_max = 40 * kl;
  result.delta_p_mean = measured(-0.1 * kl, 0.01 * kl);
  result.delta_p_rms = measured(0.5 * kl, 0.01 * kl);
  result.top1_agreement = measured(1 - 2 * kl, 0.0012);
  result.top5_agreement = measured(1 - kl, 0.0009);
  result.kl_histogram = {{0, 1e-6, 1e-3, 1}, {1, 2000, 43}};
  int position = 0;
  for (const char* name : {"1", "2–3", "4–7", "8–15", "16–31"}) {
    result.by_position.push_back({name, 100, 20, measured(1 + kl * ++position, 0.001),
                                  measured(kl * position, 0.01 * kl), measured(0.9, 0.01)});
  }
  for (const char* name : {"word start", "number", "punctuation", "byte | other"}) {
    result.by_token_class.push_back({name, 500, 18, measured(1 + kl / ++position, 0.001),
                                     measured(kl / position, 0.01 * kl), measured(0.95, 0.01)});
  }
  return result;
}

ModelResult model(const std::string& name, const std::string& qformat, const std::string& sparsity,
                  double bits) {
  ModelResult result;
  result.name = name;
  result.qformat = qformat;
  result.sparsity = sparsity;
  result.parameters = 8'030'261'248;
  result.bits_per_weight = bits;
  result.bytes = static_cast<int64_t>(bits / 8 * 8'030'261'248);
  result.sha256 = std::string(64, 'a') + name;
  return result;
}

ChoiceResult answers(int64_t right, int64_t lost, int64_t gained) {
  constexpr int64_t kQuestions = 13795;
  ChoiceResult result;
  result.accuracy = {kQuestions, right, static_cast<double>(right) / kQuestions, 0, 0};
  result.accuracy.lower = result.accuracy.value - 0.0068;
  result.accuracy.upper = result.accuracy.value + 0.0068;
  result.groups = {{"anatomy", {135, 80, 80.0 / 135, 0.5, 0.7}},
                   {"virology", {166, 90, 90.0 / 166, 0.4, 0.6}}};
  result.categories = {{"STEM", {135, 80, 80.0 / 135, 0.5, 0.7}}};
  result.lost = lost;
  result.gained = gained;
  return result;
}

ChoiceResult compared(ChoiceResult result, const ChoiceResult& base) {
  result.difference = measured(result.accuracy.value - base.accuracy.value, 0.001);
  result.relative_loss = measured(1 - result.accuracy.value / base.accuracy.value, 0.0015);
  result.mcnemar_p = 0.0625;
  result.verdict = "undecided at n = 13,795 questions in 57 subjects";
  return result;
}

void add_candidate(EvaluateReport& report, ModelResult candidate, double kl, int64_t lost) {
  PerplexityResult result;
  result.ppl = measured(6.24 * (1 + kl), 0.04);
  result.tokens = 2044;
  result.windows = 4;
  result.method = report.baseline.perplexities.at("perplexity").method;
  result.ratio = measured(1 + kl, 0.0005);
  result.log_ratio = measured(std::log(1 + kl), 0.0005);
  result.difference = measured(6.24 * kl, 0.003);
  result.correlation = 0.998;
  result.divergence = sample_divergence(kl);
  result.verdict = "a rise of 0.42 % ± 0.10 % of the baseline's perplexity";
  candidate.perplexities["perplexity"] = result;
  candidate.choices["mmlu"] =
      compared(answers(9200 - lost + 20, lost, 20), report.baseline.choices.at("mmlu"));
  report.candidates.push_back(std::move(candidate));
}

class Dice {
 public:
  explicit Dice(uint32_t seed) : random_(seed) {}

  int64_t below(int64_t end) { return std::uniform_int_distribution<int64_t>(0, end - 1)(random_); }
  bool flip() { return below(2) == 0; }

  // Any sign and magnitude, and now and then a special one.
  double number() {
    switch (below(12)) {
      case 0:
        return 0;
      case 1:
        return -0.0;
      case 2:
        return 5e-324;
      case 3:
        return 1.7976931348623157e308;
      case 4:
        return 1;
      default:
        return std::ldexp(std::uniform_real_distribution<double>(-1, 1)(random_),
                          static_cast<int>(below(200)) - 100);
    }
  }

  double share() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  int64_t count() { return flip() ? below(10) : below(int64_t{1} << 62); }

  Interval interval() {
    const double a = number();
    const double b = number();
    return {std::min(a, b), std::max(a, b)};
  }

  Measured figure() {
    Measured result{number(), std::abs(number()), {}};
    if (flip()) result.interval = interval();
    return result;
  }

  std::string name() {
    constexpr const char* kPieces[] = {"a", "\"", "\n", "é", "\\", ".",
                                       "[", "中", "/",  " ", "0",  "|"};
    std::string text;
    for (int64_t i = 1 + below(9); i > 0; --i) text += kPieces[below(12)];
    return text;
  }

  Accuracy accuracy() {
    const int64_t right = count() / 2;
    const Interval ends = interval();
    return {right + count() / 2, right, share(), ends.lower, ends.upper};
  }

 private:
  std::mt19937 random_;
};

std::vector<DivergenceSlice> random_slices(Dice& dice) {
  std::vector<DivergenceSlice> slices;
  for (int64_t i = dice.below(4); i > 0; --i) {
    slices.push_back(
        {dice.name(), dice.count(), dice.number(), dice.figure(), dice.figure(), dice.figure()});
  }
  return slices;
}

PerplexityResult random_perplexity(Dice& dice, bool candidate) {
  PerplexityResult result;
  result.ppl = dice.figure();
  result.tokens = dice.count();
  result.windows = dice.count();
  result.method = dice.name();
  if (!candidate) return result;
  result.ratio = dice.figure();
  result.log_ratio = dice.figure();
  result.difference = dice.figure();
  result.correlation = dice.number();
  Divergence& d = result.divergence;
  for (Measured* figure : {&d.kl_mean, &d.kl_median, &d.kl_p90, &d.kl_p95, &d.kl_p99, &d.kl_p999,
                           &d.delta_p_mean, &d.delta_p_rms, &d.top1_agreement, &d.top5_agreement}) {
    *figure = dice.figure();
  }
  d.kl_max = dice.number();
  if (dice.flip()) {
    d.kl_histogram.edges = {0};
    for (int64_t i = dice.below(5); i >= 0; --i) {
      d.kl_histogram.edges.push_back(d.kl_histogram.edges.back() + 1e-9 + dice.share());
      d.kl_histogram.counts.push_back(dice.count());
    }
  }
  d.by_position = random_slices(dice);
  d.by_token_class = random_slices(dice);
  result.verdict = dice.name();
  return result;
}

ChoiceResult random_choice(Dice& dice, bool candidate) {
  ChoiceResult result;
  result.accuracy = dice.accuracy();
  for (int64_t i = dice.below(3); i > 0; --i) {
    result.groups.emplace_back(dice.name() + std::to_string(i), dice.accuracy());
    result.categories.emplace_back(dice.name() + std::to_string(i), dice.accuracy());
  }
  if (dice.flip()) {
    result.target_ppl = dice.figure();
    result.target_ppl.value = 1 + dice.share();
  }
  if (!candidate) return result;
  if (result.target_ppl.value > 0) result.target_ppl_ratio = dice.figure();
  result.difference = dice.figure();
  result.relative_loss = dice.figure();
  result.lost = dice.count();
  result.gained = dice.count();
  result.mcnemar_p = dice.share();
  result.verdict = dice.name();
  return result;
}

ModelResult random_model(Dice& dice, const std::vector<TaskReport>& tasks, bool candidate) {
  ModelResult result = model(dice.name(), dice.name(), dice.name(), dice.share());
  result.kv_cache = dice.name();
  result.parameters = dice.count();
  result.bytes = dice.count();
  result.clamped_inputs = dice.count();
  result.quantized_inputs = dice.count();
  for (const TaskReport& task : tasks) {
    if (task.questions) {
      result.choices[task.name] = random_choice(dice, candidate);
    } else {
      result.perplexities[task.name] = random_perplexity(dice, candidate);
    }
  }
  if (!candidate || dice.flip()) return result;
  for (int64_t i = dice.below(4); i >= 0; --i) {
    LayerError layer{dice.name(), dice.count(), dice.count(), dice.name(), {}, dice.figure()};
    if (dice.flip()) layer.sqnr_db = dice.number();
    result.layers.push_back(layer);
  }
  result.layer_tokens = dice.count();
  return result;
}

}  // namespace

EvaluateReport sample_report(const std::string& baseline) {
  EvaluateReport report;
  TaskReport text;
  text.name = "perplexity";
  text.method = "GPTQ's and AWQ's windows: ctx 512, stride 512, tail dropped";
  text.data_sha256 = std::string(64, '1');
  text.ids_sha256 = std::string(64, '2');
  text.text_tokens = 2100;
  text.ctx = 512;
  text.stride = 512;
  text.windows = 4;
  text.tokens = 2044;
  text.seconds = 1.5;
  TaskReport mmlu;
  mmlu.name = "mmlu";
  mmlu.questions = true;
  mmlu.method = "5-shot, right when it has the largest sum of the choice's log-probabilities";
  mmlu.data_sha256 = std::string(64, '3');
  mmlu.ids_sha256 = std::string(64, '4');
  mmlu.shots = 5;
  mmlu.fewer_shots = 12;
  mmlu.prompt_tokens = 9'000'000;
  mmlu.tokens_run = 2'000'000;
  mmlu.seconds = 1234.5;
  report.tasks = {text, mmlu};

  report.baseline = model(baseline, "bf16", "none", 16);
  PerplexityResult& base = report.baseline.perplexities["perplexity"];
  base.ppl = measured(6.24, 0.04);
  base.tokens = 2044;
  base.windows = 4;
  base.method = text.method;
  report.baseline.choices["mmlu"] = answers(9200, 0, 0);

  add_candidate(report, model("fp8", "fp8", "none", 8.03), 0.0012, 30);
  add_candidate(report, model("awq", "int4_awq", "none", 4.25), 0.031, 120);
  add_candidate(report, model("awq-24", "int4_awq", "sparsegpt", 3.4), 0.31, 2400);
  ModelResult& awq = report.candidates[1];
  awq.layer_tokens = 2044;
  for (int i = 0; i < 14; ++i) {
    awq.layers.push_back({"model.layers." + std::to_string(i) + ".mlp.down_proj", 4096, 14336,
                          "int4_awq", 20.5 + i, measured(1e-3 / (1 + (i * 5) % 14), 1e-5)});
  }
  awq.layers[13].sqnr_db.reset();
  report.kernel = "bf16 avx512_core_amx";
  report.precision = "bf16";
  report.seconds = 1240;
  report.peak_rss_bytes = int64_t{3} << 30;
  report.warnings = {
      "W-LEAK: awq.h5: was calibrated on the text that it is evaluated on; its "
      "figures are better than they would be on other text"};
  return report;
}

EvaluateReport random_report(uint32_t seed) {
  Dice dice(seed);
  EvaluateReport report;
  for (int64_t i = dice.below(4); i > 0; --i) {
    TaskReport task;
    task.name = dice.name() + std::to_string(i);
    task.questions = dice.flip();
    task.method = dice.name();
    task.data_sha256 = dice.name();
    task.ids_sha256 = dice.name();
    task.seconds = dice.number();
    for (int64_t* count : task.questions
                              ? std::vector<int64_t*>{&task.shots, &task.fewer_shots,
                                                      &task.prompt_tokens, &task.tokens_run}
                              : std::vector<int64_t*>{&task.text_tokens, &task.ctx, &task.stride,
                                                      &task.windows, &task.tokens}) {
      *count = dice.count();
    }
    report.tasks.push_back(task);
  }
  report.baseline = random_model(dice, report.tasks, false);
  for (int64_t i = dice.below(4); i > 0; --i) {
    report.candidates.push_back(random_model(dice, report.tasks, true));
  }
  report.kernel = dice.name();
  report.precision = dice.name();
  report.seconds = dice.number();
  report.peak_rss_bytes = dice.count();
  for (int64_t i = dice.below(3); i > 0; --i) report.warnings.push_back(dice.name());
  return report;
}

}  // namespace pare
