# libpare: the objects of all modules behind the public headers in include/pare.
get_property(modules GLOBAL PROPERTY PARE_MODULES)
get_property(libraries GLOBAL PROPERTY PARE_MODULE_LIBRARIES)
list(REMOVE_DUPLICATES libraries)
set(objects)
foreach(module ${modules})
  list(APPEND objects $<TARGET_OBJECTS:pare_${module}_objects>)
endforeach()
add_library(pare SHARED ${objects})
add_library(pare::pare ALIAS pare)
set_target_properties(pare PROPERTIES VERSION ${PROJECT_VERSION}
                                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
                                      LINKER_LANGUAGE CXX)
target_include_directories(pare PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                       $<INSTALL_INTERFACE:include>)
target_compile_features(pare PUBLIC cxx_std_20)
target_link_libraries(pare PRIVATE ${libraries})
