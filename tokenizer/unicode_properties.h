// Names of Unicode properties in patterns, as PCRE2 spells them.
//
// Stateless.
//
//   pcre2_property_name("uppercaseletter");  // "Lu"
#pragma once

#include <string_view>

namespace pare {

/// PCRE2's name of a general category or binary property, given its short or long name in the loose
/// form of UAX #44 (lower case, no separators); empty when there is none of that name.
std::string_view pcre2_property_name(std::string_view loose_name);

}  // namespace pare
