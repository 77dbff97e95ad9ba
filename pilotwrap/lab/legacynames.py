"""The legacy calls' arguments: their names in the current API, and their values, which may all come as text. Pure."""

from collections.abc import Mapping

from pilotwrap.lab.arguments import Argument
from pilotwrap.lab.envelope import Json


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split("=") for word in text.split())


GET_JOB_NAMES = _pairs(
    "siteName=site_name timeout=timeout mem=memory diskSpace=disk_space prodSourceLabel=prod_source_label node=node"
    " computingElement=computing_element prodUserID=prod_user_id getProxyKey=get_proxy_key taskID=task_id nJobs=n_jobs"
    " background=background resourceType=resource_type harvester_id=harvester_id worker_id=worker_id"
    " schedulerID=scheduler_id jobType=job_type viaTopic=via_topic remaining_time=remaining_time"
)

UPDATE_JOB_NAMES = _pairs(
    "jobId=job_id state=job_status xml=job_output_report metaData=meta_data attemptNr=attempt_nr timeout=timeout"
    " transExitCode=trans_exit_code pilotErrorCode=pilot_error_code pilotErrorDiag=pilot_error_diag node=node"
    " cpuConsumptionTime=cpu_consumption_time cpuConsumptionUnit=cpu_consumption_unit siteName=site_name"
    " cpuConversionFactor=cpu_conversion_factor schedulerID=scheduler_id pilotID=pilot_id pilotLog=pilot_log"
    " exeErrorCode=exe_error_code exeErrorDiag=exe_error_diag pilotTiming=pilot_timing startTime=start_time"
    " endTime=end_time nEvents=n_events nInputFiles=n_input_files batchID=batch_id jobMetrics=job_metrics"
    " stdout=stdout jobSubStatus=job_sub_status coreCount=core_count meanCoreCount=mean_core_count maxRSS=max_rss"
    " maxVMEM=max_vmem maxSWAP=max_swap maxPSS=max_pss avgRSS=avg_rss avgVMEM=avg_vmem avgSWAP=avg_swap avgPSS=avg_pss"
    " totRCHAR=tot_rchar totWCHAR=tot_wchar totRBYTES=tot_rbytes totWBYTES=tot_wbytes rateRCHAR=rate_rchar"
    " rateWCHAR=rate_wchar rateRBYTES=rate_rbytes rateWBYTES=rate_wbytes corruptedFiles=corrupted_files"
    " cpu_architecture_level=cpu_architecture_level grid=grid source_site=source_site destination_site=destination_site"
)


def translated(names: Mapping[str, str], expected: tuple[Argument, ...], given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the arguments under their current names and types; what is null, unknown or no number is left out."""
    by_name = {each.name: each for each in expected}
    found: dict[str, Json] = {}
    for name, value in given.items():
        argument = by_name.get(names.get(name, ""))
        if argument is None or value is None:
            continue
        typed = _typed(argument, value)
        if typed is not None:
            found[argument.name] = typed
    return found


def _typed(argument: Argument, value: Json) -> Json:
    text = str(value)
    if argument.kind == "str":
        return text
    if argument.kind == "bool":
        return text == "True"
    try:
        return int(text) if text.lstrip("+-").isdecimal() else _number(argument, float(text))
    except (ValueError, OverflowError):
        return None


def _number(argument: Argument, number: float) -> int | float:
    return number if argument.kind == "number" else int(number)
