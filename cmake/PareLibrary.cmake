# libpare: the objects of all modules behind the public headers in include/pare.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

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
                                       $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(pare PUBLIC cxx_std_20)
target_link_libraries(pare PRIVATE ${libraries})

# The package: find_package(pare) gives pare::pare, pkg-config gives pare.
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pare)
install(TARGETS pare EXPORT pareTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
                COMPONENT runtime NAMELINK_COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/pare DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development FILES_MATCHING PATTERN "*.h")
install(EXPORT pareTargets NAMESPACE pare:: DESTINATION ${package_dir} COMPONENT development)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/pareConfig.cmake.in
  ${PROJECT_BINARY_DIR}/pareConfig.cmake INSTALL_DESTINATION ${package_dir})
# 0.x promises nothing from one minor version to the next.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pareConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pareConfig.cmake ${PROJECT_BINARY_DIR}/pareConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/PareFunctions.cmake
              ${PROJECT_SOURCE_DIR}/cmake/PareExportRecord.cmake
        DESTINATION ${package_dir} COMPONENT development)
file(RELATIVE_PATH pare_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
     ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/pare.pc.in ${PROJECT_BINARY_DIR}/pare.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pare.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/pare-dev
        COMPONENT development USE_SOURCE_PERMISSIONS)
