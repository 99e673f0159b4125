// Finds the tensors that a model wants under the names that its files give them.
//
// The same architecture is published with and without the name of its outer class in front
// ("model.", "transformer."), as the language part of a larger model ("language_model." and
// others), with LayerNorm's old ".gamma" and ".beta", and saved from inside an adapter
// ("base_model.model."). Pure functions; safe from any thread.
//
//   auto source = make_named_source(base, resolve_names(wanted, *base));
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/named_source.h"
#include "formats/weight_source.h"

namespace pare {

/// For each of `wanted` that is not among `available`, the available name that stands for it; those
/// for which there is none are left out. The rule that finds the most names decides, then the next
/// for what is left. Names that are wanted themselves stand for nothing else. Throws
/// Error(kInputMalformed), its message beginning with `subject` and naming both, when two available
/// names are equally good for one, or one would stand for two.
std::map<std::string, std::string> match_names(std::span<const std::string> wanted,
                                               std::span<const std::string> available,
                                               const std::string& subject);

/// The same with a source, in the form that make_named_source() takes.
std::map<std::string, StoredTensor> resolve_names(const std::vector<std::string>& wanted,
                                                  const WeightSource& source);

}  // namespace pare
